{# Per profile no interval is empty, no two overlap, and there is no hole between them. -#}
with intervals as (
    select
        account_id,
        profile_type,
        profile_id,
        start_at,
        end_at,
        lead(start_at) over (partition by account_id, profile_type, profile_id order by start_at) as next_start_at
    from {{ ref('cronofy', 'profile_intervals') }}
)

select *
from intervals
where start_at >= end_at or end_at <> next_start_at
