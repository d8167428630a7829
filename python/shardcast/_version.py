"""The version of the package. Wheels of a release have that release's here."""

__version__ = "0.0.0.dev0"
