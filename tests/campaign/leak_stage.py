"""Where leaks are looked for: a Cronofy that quotes every secret it sees, and a folder that loads run in."""

import csv
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.acceptance.documents import account, profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import Reply, says
from tests.acceptance.threaded import Asked

from .canaries import ACCESS, CLIENT_SECRET, NEW_ACCESS, NEW_REFRESH, REFRESH, RELINK, RELINK_URL, Search

LOUD = {"RUNTIME__LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}
CLIENT = {"SOURCES__CRONOFY__CLIENT_ID": "client", "SOURCES__CRONOFY__CLIENT_SECRET": CLIENT_SECRET}
STORES = frozenset({"tokens.csv", "secrets.toml", "application.sqlite"})
DATA_CENTERS = ("us", "au", "ca", "de", "sg", "uk")
NUMBER = re.compile(r"(\d+)(?:\.(\d+))?==$")


def quoting(secret: str, document: dict[str, Any]) -> dict[str, Reply]:
    """Servers that quote a secret in whatever place they have."""
    text = json.dumps({"error": f"bad token {secret}", "error_description": secret}).encode()
    header = (("location", f"/elsewhere?token={quote(secret)}"), ("www-authenticate", f"Bearer {secret}"))
    return {
        "ok": says(document),
        "401": Reply(401, text, header, reason=f"Bad {secret}"),
        "403": Reply(403, text, header),
        "400": Reply(400, text, header),
        "500": Reply(500, f"<h1>{secret}</h1>".encode(), header),
        "redirect": Reply(302, b"", header),
        "Retry-After": Reply(503, b"", (("retry-after", secret),)),
        "broken JSON": Reply(200, b'{"token": "' + secret.encode()),
        "wrong shape": Reply(200, json.dumps({"sub": {secret: secret}, secret: 1}).encode()),
        "a list": Reply(200, json.dumps([secret]).encode()),
        "bad status line": Reply(raw=f"HTTP/1.1 {secret} {secret}\r\n\r\n".encode()),
        "bad header": Reply(raw=f"HTTP/1.1 200 OK\r\n{secret}\r\nx y: {secret}\r\n\r\n".encode()),
        "bad length": Reply(raw=f"HTTP/1.1 200 OK\r\ncontent-length: {secret}\r\n\r\n".encode()),
        "bad encoding": Reply(200, b"x", (("content-encoding", secret),)),
        "bad charset": Reply(200, b"\xff", (("content-type", f"text/html; charset={secret}"),)),
        "cookie": Reply(401, b"", (("set-cookie", f"token={secret}; path=/"),)),
        "reset": Reply(cut="reset"),
        "short": Reply(200, text, cut="short"),
    }


WAYS = tuple(quoting("", {}))


def identity(number: int) -> dict[str, Any]:
    """The userinfo of a user with a connected calendar and one to relink."""
    down = profile(f"pro_{number}_down", connected=False) | {"profile_relink_url": RELINK.format(number)}
    return userinfo(f"acc_{number}", [profile(f"pro_{number}"), down])


class Quoting:
    """Answers by a token's number: some are answered as above, some so after a refresh, or by the refresh.

    Attributes:
        seen: how often each way of quoting was played, by endpoint.
    """

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def __call__(self, asked: Asked) -> Reply:
        secret = asked.form.get("refresh_token") or asked.token
        found = NUMBER.search(str(secret))
        if found is None:
            return Reply(404)
        number, generation = int(found[1]), int(found[2] or 0)
        group, way = divmod(number, len(WAYS))
        if asked.endpoint == "hang":
            return Reply(delay=60)
        if asked.endpoint == "token":
            return self._refreshed(group, way, number, generation + 1, asked)
        if asked.endpoint == "account":
            return says(account(f"acc_{number}"))
        if group == 0 or (group == 1 and generation):
            return self._quoted(asked.endpoint, WAYS[way], asked.token, identity(number))
        if group in (1, 2):
            return Reply(401, json.dumps({"error": asked.token}).encode())
        return says(identity(number))

    def _refreshed(self, group: int, way: int, number: int, generation: int, asked: Asked) -> Reply:
        name = f"{number}.{generation}"
        issued = {
            "access_token": NEW_ACCESS.format(name),
            "refresh_token": NEW_REFRESH.format(name),
            "expires_in": 3600,
        }
        secrets = " ".join([*map(str, issued.values()), *map(str, asked.form.values())])
        return self._quoted("token", WAYS[way] if group == 2 else "ok", secrets, issued)

    def _quoted(self, endpoint: str, way: str, secret: str, document: dict[str, Any]) -> Reply:
        self.seen[endpoint, way] += 1
        return quoting(secret, document)[way]


def token_rows(numbers: Iterable[int]) -> list[dict[str, str]]:
    """Rows of a token store."""
    return [
        {
            "key": f"key{n}",
            "access_token": ACCESS.format(n),
            "refresh_token": REFRESH.format(n),
            "data_center": DATA_CENTERS[n % len(DATA_CENTERS)],
        }
        for n in numbers
    ]


QUOTED, PLAIN = range(3 * len(WAYS)), range(3 * len(WAYS), 3 * len(WAYS) + 10)
# one that is well, one that is well after a refresh, some whose refresh is refused, and one to relink
FEW = (0, len(WAYS), *(2 * len(WAYS) + WAYS.index(way) for way in ("401", "400", "broken JSON")), PLAIN[0])
MIXED = (*FEW, *PLAIN[1:])


@dataclass
class Stage:
    """One scene's folder; whatever a command there says is searched."""

    search: Search
    scene: str
    place: Place

    def write_tokens(self, numbers: Iterable[int]) -> None:
        """Write the token file."""
        rows = token_rows(numbers)
        with self.place.tokens_file.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def run(
        self,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        status: int | None = 0,
        shows_relink: bool = False,
    ) -> str:
        """One command with all its logging on; its command line is looked at while it runs.

        Args:
            settings: of the environment, beside the usual ones.
            status: what it must end with.
            shows_relink: its results may hold relink URLs.

        Returns:
            What it printed to stdout.
        """
        process = self.place.start("-v", *arguments, **{**LOUD, **CLIENT, **(settings or {})})
        watch = threading.Thread(target=self._watch, args=(process.pid,))
        watch.start()
        out, err = process.communicate(timeout=300)
        watch.join()
        name = " ".join(argument for argument in arguments if not argument.startswith("SELECT"))
        self.said(name, out, err, shows_relink=shows_relink)
        assert status in (None, process.returncode), f"{name} ended with {process.returncode}\n{err}"
        assert arguments[0] != "load" or status or "|[DEBUG]|" in err, err
        return out

    def said(self, name: str, out: str, err: str, *, shows_relink: bool = False) -> None:
        """Search what a command printed."""
        allowed = RELINK_URL if shows_relink else frozenset()
        self.search.look(self.scene, "stdout", name, [out.encode()], allowed)
        self.search.look(self.scene, "stderr", name, [err.encode()])

    def finish(self) -> None:
        """Search what is left on disk."""
        self.search.look_below(self.scene, self.place.directory, STORES)

    def _watch(self, pid: int) -> None:
        seen: set[bytes] = set()
        process = Path(f"/proc/{pid}")
        while True:
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                break
            if not line:  # it has ended
                break
            seen.add(line)
            threading.Event().wait(0.02)
        self.search.look(self.scene, "command line", str(pid), [b"\n".join(seen)])


def stage(search: Search, scene: str, directory: Path, base_url: str) -> Stage:
    """A new folder for a scene."""
    folder = directory / scene.replace(" ", "-")
    folder.mkdir()
    return Stage(search, scene, Place(folder, base_url))
