"""How both services read their settings: flags, then variables of the environment, then the defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from splitcodec import __version__
from splitcodec.errors import SettingsError


class ServiceSettings(BaseSettings):
    """Base of a service's settings: frozen; a bad value or an unsafe combination fails at construction.

    A subclass names its variables (`env_prefix`) and its command (`cli_prog_name`).
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )


Settings = TypeVar("Settings", bound=ServiceSettings)


def user_folder(variable: str, usual: str, name: str, setting: str) -> Path:
    """The folder `name` in that of an XDG variable, without it in `usual` below the user's home.

    SettingsError: the user has no home, and only `setting` can say where.
    """
    if given := os.environ.get(variable):
        return Path(given) / name
    try:
        return Path.home() / usual / name
    except RuntimeError:
        raise SettingsError(
            f"user {os.getuid()} has no home folder; set HOME or {variable}, or {setting}"
        ) from None


def read_settings(kind: type[Settings], arguments: list[str]) -> Settings:
    """Settings of one service from its command line and the environment.

    Raises SettingsError naming each bad setting, and SystemExit after --help and --version.
    """
    command = kind.model_config["cli_prog_name"]
    flags: CliSettingsSource[Any] = CliSettingsSource(kind, cli_exit_on_error=False)
    flags.root_parser.add_argument(
        "--version", action="version", version=f"{command} {__version__}", help="print the version and end"
    )
    try:
        return CliApp.run(kind, cli_args=arguments, cli_settings_source=flags)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"{problems}; see {command} --help") from None
    except SourceError as error:
        raise SettingsError(f"{error}; see {command} --help") from None
