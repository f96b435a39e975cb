"""The token file: replaced as a whole, by one load at a time, and never half."""

import logging
import os
import random
import resource
import stat
import subprocess
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlt_cronofy.source import files
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Hidden, Secret
from dlt_cronofy.source.tokens import file_store
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.file_formats import FORMATS
from dlt_cronofy.source.tokens.file_store import FileStore
from dlt_cronofy.source.tokens.token import StoredTokens, Token

write_csv = FORMATS[".csv"].write
ROOT = Path(__file__).parents[3]
SECRET = "hunter2-is-secret"
HEADER = "key,access_token,refresh_token\n"


def renewed(token: Token, access: str = "AT", refresh: str = "RT") -> Renewal:
    return Renewal(token, Secret(access), Secret(refresh))


def holding(path: Path, text: str = f"{HEADER}k,at,rt\n") -> FileStore:
    path.write_text(text, encoding="utf-8")
    return FileStore(str(path))


def write_with(store: FileStore, write: Callable[[bytes, Any], bytes]) -> None:
    store._format = store._format._replace(write=write)


def shown(tokens: list[Token]) -> list[tuple[str, str, str | None]]:
    return [
        (each.key, each.access_token.reveal(), each.refresh_token.reveal() if each.refresh_token else None)
        for each in tokens
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.csv"


def csv_file(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text(f"note,access_token,refresh_token\nx,at,rt\ny,at2,rt2\n{'z' * 9},at3,\n")
    return path


def json_file(path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text(
        '{"access_token":"at","refresh_token":"rt"}\n{"access_token":"at2","refresh_token":"rt2"}\n"at3"'
    )
    return path


def parquet_file(path: Path) -> Path:
    path = path.with_suffix(".parquet")
    columns = {"access_token": ["at", "at2", "at3"], "refresh_token": ["rt", "rt2", None]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("write", [csv_file, json_file, parquet_file])
def test_refreshed_tokens_are_read_again_under_their_keys(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    store = FileStore(str(write(tmp_path / "tokens")))
    before = store.read()
    assert store.why_not_saved() is None
    assert store.save([renewed(before[0]), renewed(before[1], "AT2", "rt2")]) == []
    after = store.read()
    assert shown(after) == [
        (before[0].key, "AT", "RT"), (before[1].key, "AT2", "rt2"), (before[2].key, "at3", None),
    ]  # fmt: skip
    # and once more, now that the refresh token is another one
    assert store.save([renewed(after[0], "AT+", "RT+")]) == []
    assert shown(store.read())[0] == (before[0].key, "AT+", "RT+")
    # who comes late with the first one changes nothing
    late = renewed(before[0], "LATE", "LATE")
    assert store.save([late]) == [late]
    assert "LATE" not in repr(shown(store.read()))
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        [Path(store.name).name, Path(store.name).name + ".lock"]
    )


BAD_LINES = f'''\
key, "access_token", "refresh_token", note
a, "at1", "r,1",
b,"{SECRET},rt2
,,,
c,at3,rt3,"an open
d,at4,rt4,us,more
'''
GOOD_LINES = f'''\
key, "access_token", "refresh_token", note
a,A,R,
b,"{SECRET},rt2
,,,
c,A,R,"an open
"
d,at4,rt4,us,more
'''


def test_rows_that_cannot_be_used_stay_beside_refreshed_ones(path: Path) -> None:
    store = holding(path, BAD_LINES)
    found = store.read()
    assert shown(found) == [("a", "at1", "r,1"), ("c", "at3", "rt3")]
    assert [row.place for row in found.unusable] == [f"{path}, line 3", f"{path}, line 6"]
    assert store.save([renewed(each, "A", "R") for each in found]) == []
    assert path.read_text() == GOOD_LINES
    assert shown(store.read()) == [("a", "A", "R"), ("c", "A", "R")]


def test_a_line_that_is_not_json_keeps_nobody_from_refreshing(tmp_path: Path) -> None:
    lines = (
        '{"access_token":"a","refresh_token":"r","key":"a"}\n{"access\n\n{"key":"b","refresh_token":"rt2"}\n'
    )
    store = holding(tmp_path / "tokens.jsonl", lines)
    found = store.read()
    assert shown(found) == [("a", "a", "r"), ("b", "", "rt2")]
    assert store.save([renewed(each, "A", "R") for each in found]) == []
    assert (tmp_path / "tokens.jsonl").read_text() == (
        '{"access_token": "A", "refresh_token": "R", "key": "a"}\n{"access\n\n'
        '{"key": "b", "refresh_token": "R", "access_token": "A"}\n'
    )


def test_a_file_that_is_refused_is_in_no_traceback_with_locals(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text(f"{HEADER}one,{SECRET} x,RT\n")
    with pytest.raises(ConfigurationError) as raised:
        FileStore(str(tmp_path / "tokens.csv")).read()
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert SECRET not in "".join(shown.format())


def test_owner_mode_and_links_stay(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    store = holding(real / "tokens.csv")
    (real / "tokens.csv").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real / "tokens.csv", 1234, 4321)
    before = (real / "tokens.csv").stat()
    (tmp_path / "first.csv").symlink_to("second.csv")
    (tmp_path / "second.csv").symlink_to(real / "tokens.csv")
    store = FileStore(str(tmp_path / "first.csv"))
    assert store.folder == real
    assert store.why_not_saved() is None
    assert store.save([renewed(store.read()[0])]) == []
    after = (real / "tokens.csv").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert (tmp_path / "first.csv").readlink() == Path("second.csv")
    assert shown(store.read()) == [("k", "AT", "RT")]
    assert {each.name for each in tmp_path.iterdir()} == {"real", "first.csv", "second.csv"}


def test_a_group_that_cannot_be_kept_loses_nothing_to_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    store = holding(path)
    path.chmod(0o664)
    monkeypatch.setattr(os, "chown", refuse)
    store.save([renewed(store.read()[0])])
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_the_new_file_is_private_while_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = holding(path)
    modes: list[int] = []

    def fsync(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode)

    def take_over(descriptor: int, status: os.stat_result) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(files, "take_over", take_over)
    store.save([renewed(store.read()[0])])
    assert modes[0] == 0o600
    # the new file, and then its folder
    assert [stat.S_ISDIR(mode) for mode in modes[1:]] == [False, True]


def test_what_a_killed_load_left_is_cleaned_up(path: Path) -> None:
    store = holding(path)
    left = path.with_name(".tokens.csv.new-0123456789ab")
    other = path.with_name(".tokens.csv.news")
    for each in (left, other):
        each.write_text("half a fi")
    assert store.why_not_saved() is None
    store.save([renewed(store.read()[0])])
    assert not left.exists()
    assert other.exists()


def test_current_reads_the_file_again_only_when_it_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = holding(path)
    reads = 0
    read = FileStore._tokens_in

    def counted(store: FileStore, content: Hidden) -> StoredTokens:
        nonlocal reads
        reads += 1
        return read(store, content)

    monkeypatch.setattr(FileStore, "_tokens_in", counted)
    [token] = store.read()
    assert store.current(token) == token
    assert store.current(replace(token, key="gone")) is None
    assert reads == 1
    FileStore(str(path)).save([renewed(token)])
    for _ in range(2):
        found = store.current(token)
        assert found is not None
        assert shown([found]) == [("k", "AT", "RT")]
    assert reads == 2
    # what the store itself writes it need not read
    [now] = store.read()
    reads = 0
    assert store.save([renewed(now, "A2", "R2")]) == []
    found = store.current(token)
    assert found is not None
    assert shown([found]) == [("k", "A2", "R2")]
    assert reads == 0
    assert shown(store.read()) == shown([found])
    path.write_text("half a fi")
    assert store.current(token) is None
    path.unlink()
    assert store.current(token) is None


def test_many_renewals_cost_one_rewrite(path: Path) -> None:
    rows = [f"k{n},at{n},rt{n}" for n in range(1000)]
    store = holding(path, HEADER + "\n".join(rows) + "\n")
    before = path.stat().st_ino
    assert store.save([renewed(each, "A" + each.key, "R" + each.key) for each in store.read()]) == []
    assert path.stat().st_ino != before
    assert path.read_text() == HEADER + "".join(f"k{n},Ak{n},Rk{n}\n" for n in range(1000))


def test_nothing_to_write_leaves_the_file(path: Path) -> None:
    store = holding(path)
    before = path.stat()
    late = renewed(Token("k", Secret("at"), Secret("gone")))
    assert store.save([]) == []
    assert store.save([late]) == [late]
    assert path.stat() == before


def test_a_file_written_meanwhile_is_read_once_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = holding(path)
    [token] = store.read()
    meanwhile = [f"{HEADER}k,at,rt\nl,new,new\n", f"{HEADER}k,at,rt\nl,newer,newer\nm,m,m\n"]

    def slow(content: bytes, edits: Any) -> bytes:
        if meanwhile:
            path.write_text(meanwhile.pop(0))
        return write_csv(content, edits)

    write_with(store, slow)
    assert store.save([renewed(token)]) == []
    assert path.read_text() == f"{HEADER}k,AT,RT\nl,newer,newer\nm,m,m\n"

    def written_by_the_application(content: bytes, edits: Any) -> bytes:
        path.write_text(path.read_text() + "n,n,n\n")
        return write_csv(content, edits)

    path.write_text(f"{HEADER}k,at,rt\n")
    write_with(store, written_by_the_application)
    with pytest.raises(StoreError, match="it changes all the time"):
        store.save([renewed(token)])


def failing(*_: Any) -> Any:
    raise OSError(28, "No space left on device")


def missing(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()


def full(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing)


def no_new_files(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "written_beside", failing)


def lock_is_a_folder(path: Path, _: pytest.MonkeyPatch) -> None:
    path.with_name("tokens.csv.lock").mkdir()


def not_csv(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(b'access_token,"refresh_token\n' + SECRET.encode() * 20_000)


COLUMNS = "key, access_token, refresh_token, data_center"
NO_HEADER = f"no column access_token; the first line must name the columns {COLUMNS}"


@pytest.mark.parametrize(
    ("damage", "said_before", "said_then"),
    [
        (missing, "{path} is not writable: there is no such file", "there is no such file"),
        (full, "{path} is not writable: No space left on device", "No space left on device"),
        (no_new_files, "{path} is not writable: No space left on device", "No space left on device"),
        (lock_is_a_folder, "{path} is not writable: Is a directory (tokens.csv.lock)", "Is a directory"),
        (not_csv, f"{{path}}, line 1: {NO_HEADER}", "no column access_token"),
    ],
)
def test_a_file_that_cannot_be_written(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Any,
    said_before: str,
    said_then: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    store = holding(path, f"{HEADER}k,{SECRET},rt\n")
    [token] = store.read()
    damage(path, monkeypatch)
    content = path.read_bytes() if path.exists() else None
    assert store.why_not_saved() == said_before.format(path=path)
    with pytest.raises(StoreError) as error:
        store.save([renewed(token, SECRET)])
    assert said_then.format(path=path) in str(error.value)
    assert SECRET not in str(error.value) + repr(error.value) + repr(store) + caplog.text
    assert (path.read_bytes() if path.exists() else None) == content
    assert not list(path.parent.glob(".tokens.csv.new-*"))


@pytest.mark.parametrize("write", [csv_file, json_file, parquet_file])
def test_a_trial_leaves_nothing(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "tokens")
    before, content = path.stat(), path.read_bytes()
    assert FileStore(str(path)).why_not_saved() is None
    assert (path.stat(), path.read_bytes()) == (before, content)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, path.name + ".lock"}


def test_a_quota_is_found_by_writing_all_of_it(path: Path) -> None:
    """A file may be created, and not hold as much as the token file does."""
    store = holding(path, HEADER + "".join(f"k{n},at{n},rt{n}\n" for n in range(2000)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        why = store.why_not_saved()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert why == f"{path} is not writable: File too large"
    assert {each.name for each in path.parent.iterdir()} == {"tokens.csv", "tokens.csv.lock"}


def forgets(content: bytes, _: Any) -> bytes:
    return content


def loses_a_row(content: bytes, edits: Any) -> bytes:
    return b"".join(write_csv(content, edits).splitlines(keepends=True)[:-1])


def mixes_rows_up(content: bytes, edits: Any) -> bytes:
    header, first, second = write_csv(content, edits).split()
    return b"\n".join([header, first[:1] + second[1:], second[:1] + first[1:]])


def breaks_it(content: bytes, edits: Any) -> bytes:
    return write_csv(content, edits).replace(b"access_token", b"token")


@pytest.mark.parametrize("write", [forgets, loses_a_row, mixes_rows_up, breaks_it])
def test_what_would_not_read_as_it_should_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    store = holding(path, f"{HEADER}k,at,rt\nl,at2,rt2\n")
    write_with(store, write)
    assert store.why_not_saved() == f"{path} cannot be written: with new tokens it does not read as it should"


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become somebody else, and modes do not hold root"
)
def test_permission_that_is_missing_is_said() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as directory:  # not below a directory that is for root alone
        for name in ("folder", "file", "sticky", "fine"):
            folder = Path(directory) / name
            folder.mkdir()
            holding(folder / "tokens.csv")
            (folder / "tokens.csv.lock").touch()
            for each in (folder, *folder.iterdir()):
                os.chown(each, nobody, nobody)
        Path(directory).chmod(0o755)
        # anybody may write there, and replace what is theirs
        sticky = Path(directory) / "sticky"
        for each, mode in ((sticky, 0o1777), (sticky / "tokens.csv", 0o666)):
            os.chown(each, 0, 0)
            each.chmod(mode)
        (Path(directory) / "folder").chmod(0o555)
        (Path(directory) / "file" / "tokens.csv").chmod(0o444)
        script = """
            import os
            from dlt_cronofy.source.tokens.file_store import FileStore
            FileStore("fine/tokens.csv").read()  # who reads root's files later, such as codecs, may not
            os.setgid(65534)
            os.setuid(65534)
            for name in ("folder", "file", "sticky", "fine"):
                print(FileStore(f"{name}/tokens.csv").why_not_saved())
        """
        only_owner = "lets only the owner of a file replace it (sticky bit)"
        assert python(script, Path(directory)).stdout.splitlines() == [
            f"folder/tokens.csv is not writable: Permission denied ({directory}/folder)",
            "file/tokens.csv is not writable: Permission denied (tokens.csv)",
            f"sticky/tokens.csv is not writable: {sticky} {only_owner}",
            "None",
        ]


def test_a_file_that_is_a_mount_cannot_be_replaced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my tokens.csv"
    store = holding(path)
    listed = tmp_path / "mountinfo"
    listed.write_text(f"36 35 98:0 /x {str(path).replace(' ', chr(92) + '040')} rw - ext4 /dev/root rw\n")
    monkeypatch.setattr(files, "MOUNTS", listed)
    why = store.why_not_saved()
    assert why is not None
    assert "is a mount of its own" in why
    listed.write_text("36 35 98:0 / / rw - ext4 /dev/root rw\n")
    assert store.why_not_saved() is None


def python(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


# children that save for ever, killed at random moments; forked, so that nothing is imported again
KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    from dlt_cronofy.source.tokens.file_store import FileStore
    from dlt_cronofy.source.secret import Secret
    from dlt_cronofy.source.tokens.base import Renewal

    path, rounds, rows = Path("tokens.csv"), 4, 300
    for _ in range(rounds):
        before = path.stat().st_ino
        child = os.fork()
        if child == 0:
            store = FileStore("tokens.csv")
            while True:
                tokens = store.read()
                number = int(tokens[0].access_token.reveal()[2:]) + 1
                store.save([
                    Renewal(each, Secret(f"at{number}"), Secret(f"rt{number}-{each.key}")) for each in tokens
                ])
        while path.stat().st_ino == before:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        tokens = FileStore("tokens.csv").read()
        assert len(tokens) == rows
        generations = {each.access_token.reveal()[2:] for each in tokens}
        assert len(generations) == 1, generations
        (generation,) = generations
        held = {each.refresh_token.reveal() for each in tokens}
        assert held == {f"rt{generation}-k{n}" for n in range(rows)}
    print(generation, len(list(Path().glob(".tokens.csv.new-*"))))
"""


def test_a_killed_load_leaves_one_version_or_the_other(path: Path) -> None:
    holding(path, HEADER + "".join(f"k{n},at0,rt0-k{n}\n" for n in range(300)))
    generation, left = map(int, python(KILLED, path.parent).stdout.split())
    assert generation >= 4
    assert left <= 1


SAVING = """
    import os
    from dlt_cronofy.source.secret import Secret
    from dlt_cronofy.source.tokens.base import Renewal
    from dlt_cronofy.source.tokens.file_store import FileStore

    start, go = os.pipe()
    for who in "ab":
        if os.fork() == 0:
            os.close(go)
            store = FileStore("tokens.csv")
            os.read(start, 1)  # both begin when the parent closes its end
            for token in [each for each in store.read() if each.key.startswith(who)]:
                assert store.save([Renewal(token, Secret("A" + token.key), Secret("R" + token.key))]) == []
            os._exit(0)
    os.close(go)
    assert [os.wait()[1] for _ in "ab"] == [0, 0]
"""


@pytest.mark.long
def test_two_loads_at_once_lose_nothing(path: Path) -> None:
    keys = [f"{who}{n}" for n in range(25) for who in "ab"]
    holding(path, HEADER + "".join(f"{key},at,rt-{key}\n" for key in keys))
    python(SAVING, path.parent)
    assert path.read_text() == HEADER + "".join(f"{key},A{key},R{key}\n" for key in keys)


def test_threads_take_turns(path: Path) -> None:
    holding(path, HEADER + "".join(f"k{n},at,rt{n}\n" for n in range(40)))
    tokens = FileStore(str(path)).read()
    random.Random(1).shuffle(tokens)

    def save(token: Token) -> list[Renewal]:
        return FileStore(str(path)).save([renewed(token, "A" + token.key, "R" + token.key)])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(save, tokens)) == [[]] * 40
    assert path.read_text() == HEADER + "".join(f"k{n},Ak{n},Rk{n}\n" for n in range(40))


def test_a_lock_that_is_held_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = holding(path)
    [token] = store.read()
    monkeypatch.setattr(file_store, "LOCK_SECONDS", 0.05)
    script = """
        import fasteners, sys
        with fasteners.InterProcessLock("tokens.csv.lock"):
            print("held", flush=True)
            sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=r"tokens.csv.lock is held by another process"):
            store.save([renewed(token)])
        holder.communicate("done\n")
    assert store.save([renewed(token)]) == []


def test_what_is_wrong_with_a_file_is_said_as_ever(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tokens_file does not exist"):
        FileStore(str(path)).read()
    with pytest.raises(ConfigurationError, match="line 2: expires_at is no point in time"):
        holding(path, "access_token,expires_at\nat,soon\n").read()


WITH_LABELS = {
    ".csv": "note,Customer,key,access_token,refresh_token,plan\n"
    '"n, 1","Ada ""&"" Co",a,at,rt,07\n,,b,at2,rt2\n',
    ".jsonl": '{"Customer":"Ada \\"&\\" Co","key":"a","access_token":"at","refresh_token":"rt","plan":"07"}\n'
    '{"key":"b","access_token":"at2","refresh_token":"rt2","note":{"deep":[1]}}\n',
}


def labelled_file(path: Path, suffix: str) -> Path:
    path = path.with_suffix(suffix)
    if suffix != ".parquet":
        path.write_text(WITH_LABELS[suffix])
        return path
    columns = {"key": ["a", "b"], "access_token": ["at", "at2"], "refresh_token": ["rt", "rt2"]}
    table = pa.table(
        columns
        | {"Customer": pa.array(['Ada "&" Co', None]).dictionary_encode(), "plan": ["07", ""]}
        | {"note": [[1], [2]]}
    )
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_are_read_and_outlast_a_refresh(path: Path, suffix: str) -> None:
    path = labelled_file(path, suffix)
    store = FileStore(str(path), ("plan", "customer"))
    tokens = store.read()
    assert tokens.label_names == ("plan", "customer")
    assert [each.labels for each in tokens] == [("07", 'Ada "&" Co'), (None, None)]
    assert store.why_not_saved() is None
    assert store.save([renewed(tokens[0])]) == []
    for found in (store.current(tokens[0]), FileStore(str(path), ("plan", "customer")).read()[0]):
        assert found is not None
        assert (found.access_token, found.labels) == (Secret("AT"), ("07", 'Ada "&" Co'))


def test_columns_that_are_no_labels_stay_in_the_file(path: Path) -> None:
    path = labelled_file(path, ".csv")
    before = path.read_text()
    store = FileStore(str(path))
    store.save([renewed(store.read()[0])])
    assert path.read_text() == before.replace("a,at,rt,07", "a,AT,RT,07")


def test_a_trial_that_loses_a_label_is_no_success(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(str(labelled_file(path, ".csv")))

    def forgetful(content: bytes, edits: Any) -> bytes:
        return write_csv(content, edits).replace(b"Ada", b"Eve")

    write_with(store, forgetful)
    assert str(store.why_not_saved()).endswith("with new tokens it does not read as it should")


def test_a_row_of_labels_alone_is_no_row_in_parquet(path: Path) -> None:
    path = path.with_suffix(".parquet")
    columns = {"key": ["a", None], "access_token": ["at", ""], "customer": ["Ada", "Bob"]}
    pq.write_table(pa.table(columns), path)
    found = FileStore(str(path)).read()
    assert (len(found), found.unusable, found[0].labels) == (1, (), ("Ada",))
