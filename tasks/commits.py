"""Commits, versions and the changelog: what the history says in Conventional Commits.

commitizen asks for messages and checks them. The version is in settings.ini and nowhere else, which none of its
providers reads, and the changelog is written for people, so those two are done here.
"""

import datetime
import re
import shlex
from typing import NamedTuple

from invoke import Context, Exit, task

from tasks.notebooks import ROOT

SETTINGS = ROOT / "settings.ini"
CHANGELOG = ROOT / "CHANGELOG.md"
VERSION = re.compile(r"^(version = )(\d+)\.(\d+)\.(\d+)$", re.MULTILINE)
SUBJECT = re.compile(r"(?P<type>[a-z]+)(?:\((?P<scope>[^()]*)\))?(?P<breaking>!)?: (?P<text>.+)")
SECTIONS = {
    "feat": "Added",
    "perf": "Changed",
    "fix": "Fixed",
}  # the rest is nothing that a user meets
PARTS = ("major", "minor", "patch")


class Change(NamedTuple):
    """What one commit says that it does."""

    type: str
    scope: str | None
    text: str
    breaking: bool

    @property
    def line(self) -> str:
        """The entry in the changelog."""
        where = f"`{self.scope}`: " if self.scope else ""
        return f"- {'**Breaking.** ' if self.breaking else ''}{where}{self.text}"

    @property
    def section(self) -> str | None:
        """The section of the changelog that it belongs to."""
        return "Changed" if self.breaking else SECTIONS.get(self.type)


# ------------------------------------------------------------------------------------------------------- messages
@task
def new(c: Context) -> None:
    """Commit the staged changes; the parts of the message are asked for."""
    c.run("cz commit", pty=True, in_stream=None)


@task(
    help={
        "commits": "a range such as main..HEAD, or one commit; by default, what the main branch does not have"
    }
)
def check(c: Context, commits: str = "") -> None:
    """Are the messages of these commits Conventional Commits?"""
    given = commits or f"{_main_branch(c)}..HEAD"
    between = given if ".." in given else f"{given}^!"
    subjects = _git(c, f"log --no-merges --format='%h %s' {shlex.quote(between)}").splitlines()
    if not subjects:
        print(f"There is no commit in {given}.")
        return
    if not c.run(f"cz check --rev-range {shlex.quote(between)}", warn=True, hide=True):
        wrong = [line for line in subjects if not _conventional(c, line.partition(" ")[2])]
        raise Exit(
            "\n".join([*wrong, "Write `type: what it does`. To change the messages: git rebase -i"])
        )
    print(f"{len(subjects)} commit message(s) are as they should be.")


def _conventional(c: Context, subject: str) -> bool:
    return bool(
        c.run(f"cz check --message {shlex.quote(subject)}", warn=True, hide=True, echo=False)
    )


def _main_branch(c: Context) -> str:
    """Name the branch that work goes into, as the remote has it where there is one."""
    names = _git(
        c,
        "for-each-ref --format='%(refname:short)' refs/remotes/origin/HEAD refs/heads/main refs/heads/master",
    )
    if not names:
        raise Exit(
            "There is no branch main or master to compare with: give a range, as in `--commits A..B`."
        )
    return names.splitlines()[0]


# -------------------------------------------------------------------------------------------- version and changelog
@task(
    help={
        "write": "add the entries to the section Unreleased of CHANGELOG.md, instead of showing them"
    }
)
def changelog(c: Context, write: bool = False) -> None:
    """Print the commits since the last version as a draft of the changelog; you write the sentences."""
    text = CHANGELOG.read_text(encoding="utf-8")
    added = drafted(text, history(c))
    if added == text:
        print("The changelog has everything that the history says to users.")
    elif write:
        CHANGELOG.write_text(added, encoding="utf-8")
        print("Added to CHANGELOG.md. Say in it what a user can do now, not what was done.")
    else:
        print(section(added, "Unreleased"))


@task(
    help={
        "part": "major, minor or patch; by default what the commits since the last version call for",
        "dry": "say what would happen, and change nothing",
    }
)
def bump(c: Context, part: str = "", dry: bool = False) -> None:
    """Set a new version in settings.ini and the changelog, commit and tag it. Pushing the tag starts the release."""
    if part and part not in PARTS:
        raise Exit(f"There is no part {part!r} of a version: major, minor or patch.")
    changes = history(c)
    before = version()
    after = raised(before, part or called_for(changes, before))
    if after == before:
        raise Exit(
            f"Nothing since {before} concerns users (feat, fix, perf): name a --part to make a version anyway."
        )
    text = released(CHANGELOG.read_text(encoding="utf-8"), after, changes)
    print(f"{before} -> {after}\n\n{section(text, after)}")
    if dry:
        return
    if _git(c, "status --porcelain --untracked-files=no"):
        raise Exit(
            "There are changes that are not committed: commit them, or put them away with git stash."
        )
    if _git(c, f"tag --list v{after}"):
        raise Exit(f"There is a tag v{after} already.")
    SETTINGS.write_text(
        VERSION.sub(rf"\g<1>{after}", SETTINGS.read_text(encoding="utf-8"), count=1),
        encoding="utf-8",
    )
    CHANGELOG.write_text(text, encoding="utf-8")
    c.run(
        f"git commit --quiet --message 'bump: version {before} → {after}' -- settings.ini CHANGELOG.md"
    )
    c.run(f"git tag --annotate v{after} --message {after}")
    print(
        f"To publish: git push --follow-tags. To take it back instead: git tag -d v{after} && git reset --hard HEAD^"
    )


@task(help={"of": "a version; by default the one in settings.ini"})
def notes(_c: Context, of: str = "") -> None:
    """Print the section of the changelog about a version: the text of its release."""
    text = section(CHANGELOG.read_text(encoding="utf-8"), of or version())
    if not text:
        raise Exit(f"CHANGELOG.md has no section [{of or version()}].")
    print(text)


def version() -> str:
    """Give the version in settings.ini."""
    found = VERSION.search(SETTINGS.read_text(encoding="utf-8"))
    if not found:
        raise Exit("settings.ini has no line `version = 1.2.3`.")
    return ".".join(found.groups()[1:])


def history(c: Context) -> list[Change]:
    """Read the changes since the last version: its tag, or where there is none, the commit that wrote it."""
    tag = f"v{version()}"
    since = (
        tag
        if _git(c, f"tag --list {tag}")
        else _git(c, "log -1 --format=%H -G'^version = ' -- settings.ini")
    )
    messages = _git(c, f"log --reverse --no-merges --format=%B%x00 {since}..HEAD").split("\0")
    return [change for message in messages if (change := parsed(message.strip()))]


def parsed(message: str) -> Change | None:
    """Read a commit message; None for one that is not conventional."""
    found = SUBJECT.match(message)
    if not found:
        return None
    breaking = bool(found["breaking"]) or bool(
        re.search(r"^BREAKING[ -]CHANGE: ", message, re.MULTILINE)
    )
    return Change(found["type"], found["scope"], found["text"].strip(), breaking)


def called_for(changes: list[Change], before: str) -> str | None:
    """Name the part that changes raise; before 1.0.0 a breaking change raises the minor one, as SemVer allows."""
    if any(change.breaking for change in changes):
        return "minor" if before.startswith("0.") else "major"
    types = {change.type for change in changes}
    return "minor" if "feat" in types else "patch" if types & SECTIONS.keys() else None


def raised(before: str, part: str | None) -> str:
    """Raise a part of a version, and set those after it to nought."""
    numbers = [int(number) for number in before.split(".")]
    if part is None:
        return before
    place = PARTS.index(part)
    return ".".join(
        str(number) for number in [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]
    )


def section(text: str, name: str) -> str:
    """Give what the changelog says about a version, without its heading."""
    found = re.search(
        rf"^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    return found[1].strip() if found else ""


def drafted(text: str, changes: list[Change]) -> str:
    """Add what is not yet in the changelog to the sections of Unreleased."""
    new = section(text, "Unreleased")
    for change in changes:
        heading = f"### {change.section}"
        if change.section is None or change.line in new:
            continue
        if heading not in new:
            new = f"{new}\n\n{heading}\n".lstrip()
        head, _, rest = new.partition(heading)
        entries, gap, others = rest.partition("\n### ")
        new = f"{head}{heading}\n\n{(entries.strip() + chr(10) + change.line).strip()}\n{gap}{others}".rstrip()
    return _with_section(text, f"## [Unreleased]\n\n{new}".rstrip())


def released(text: str, name: str, changes: list[Change]) -> str:
    """Give Unreleased its number and its date; with nothing in it, draft it from the history first."""
    text = text if section(text, "Unreleased") else drafted(text, changes)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    body = section(text, "Unreleased") or "Nothing that users meet."
    return _with_section(text, f"## [Unreleased]\n\n## [{name}] - {today}\n\n{body}")


def _with_section(text: str, new: str) -> str:
    """Put a text in the place of the section Unreleased."""
    start = text.find("## [Unreleased]")
    if start < 0:
        raise Exit(
            "CHANGELOG.md has no section `## [Unreleased]`: add it above the newest version."
        )
    following = text.find("\n## ", start)
    rest = text[following + 1 :] if following >= 0 else ""
    return f"{text[:start]}{new}\n\n{rest}".rstrip() + "\n"


def _git(c: Context, arguments: str) -> str:
    result = c.run(f"git {arguments}", hide=True, echo=False)
    return result.stdout.strip() if result else ""
