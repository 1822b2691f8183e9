"""How both services read their settings: flags, then variables, then a file in TOML, then the defaults."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

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

    config: Path | None = Field(
        None, description="file in TOML with more of these settings; flags and variables come before it"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the sources; flags come before them all, defaults after them."""
        return init_settings, env_settings, ConfigFileSource(settings_cls)


class ConfigFileSource(PydanticBaseSettingsSource):
    """The file that `config` names in the sources before this one; nothing where it names none."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Nothing by field: the file is read as a whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Values by name. SettingsError: the file cannot be read, is not TOML, or has what is no setting."""
        given = self.current_state.get("config")
        if given is None:
            return {}
        place = Path(given)
        try:
            place.open("rb").close()  # the source below takes a file that is not there for an empty one
            values = TomlConfigSettingsSource(self.settings_cls, place)()
        except OSError as error:
            raise SettingsError(
                f"config {place} cannot be read ({error.strerror}); name a TOML file that this user can read"
            ) from None
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"config {place} is not TOML ({error}); correct the file") from None
        known = set(self.settings_cls.model_fields) - {"config"}
        if unknown := sorted(set(values) - known):
            raise SettingsError(
                f"config {place} sets {', '.join(unknown)}{_meant(unknown, known)}, which a file cannot set; "
                "take the names of --help with _ for -"
            )
        return values


def _meant(unknown: list[str], known: set[str]) -> str:
    """What misspelt names may have meant, in brackets; empty if nothing is near."""
    near = [get_close_matches(name.lower().replace("-", "_"), sorted(known), n=1) for name in unknown]
    found = [names[0] for names in near if names]
    return f" (for {', '.join(found)}?)" if found else ""


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
    """Settings of one service from its command line, the environment and the file these name.

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
        place = {**EnvSettingsSource(kind)(), **flags()}.get("config")
        also = "" if place is None else f", and config {place}"
        raise SettingsError(f"{problems}; see {command} --help{also}") from None
    except SourceError as error:
        raise SettingsError(f"{error}; see {command} --help") from None
