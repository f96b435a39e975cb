{# started_after < first_seen_at <= last_seen_at < ended_at, and open are those that have not ended. -#}
select *
from {{ ref('cronofy', 'outages') }}
where
    started_after >= first_seen_at
    or first_seen_at > last_seen_at
    or last_seen_at >= ended_at
    or (end_reason = 'open' and ended_at is not null)
    or (end_reason <> 'open' and ended_at is null)
