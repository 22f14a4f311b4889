"""The settings of one service's credentials, and the rule that they have one source."""

from pathlib import Path

from attrs import field, frozen

from lifecycle.errors import ConfigError


@frozen(kw_only=True)
class KeySettings:
    """The settings that say where the credentials of one service come from.

    Attributes:
        owner: Beginning of the settings' names: `AWS` or `CLOUDFLARE`.
        key_id: Access key id.
        secret: Secret access key.
        token: Session token; empty for long-lived keys.
        file: File with short-lived keys.
        command: Command that prints short-lived keys.
    """

    owner: str
    key_id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    file: Path | None
    command: str = field(repr=False)

    def missing(self) -> list[str]:
        """Return the names of settings that must be set in addition.

        Raises:
            ConfigError: More than one source of keys is set.
        """
        given = [
            [f"{self.owner}_{part}" for part, value in source if value]
            for source in (
                (("ID", self.key_id), ("KEY", self.secret)),
                (("CREDENTIALS_FILE", self.file),),
                (("CREDENTIALS_COMMAND", self.command),),
            )
        ]
        if sum(map(bool, given)) > 1:
            names = " and ".join(name for source in given for name in source)
            raise ConfigError(f"{names} are set, but keys can come from one source only: unset the others")
        if given[1] or given[2]:
            return []
        return [name for name in (f"{self.owner}_ID", f"{self.owner}_KEY") if name not in given[0]]
