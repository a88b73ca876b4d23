"""What options that several tasks of this room have are for."""

VERSION = "the version, as 1.2.3 (default: the project's own)"
PROJECT = "the project's release.yaml (default: this repository's)"
TRUSTED = "public key that has to have signed (default: key or identity of release.yaml)"
JSON = "one JSON document on stdout"
