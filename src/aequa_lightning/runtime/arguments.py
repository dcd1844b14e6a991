"""The arguments that an object was built with, so that a configuration can name them."""

from inspect import Parameter, Signature, signature
from typing import Any, Self


class _InitSignature:
    """Shows a class with the arguments of its ``__init__``, where ``__new__`` takes any."""

    def __get__(self, instance: object, owner: type) -> Signature:
        return Signature(list(signature(owner.__init__).parameters.values())[1:])  # type: ignore[misc]


class RecordsArguments:
    """Base of classes whose objects know the arguments that they were built with, also in subclasses.

    Example:
        >>> class Mine(RecordsArguments):
        ...     def __init__(self, size, *, alpha=0.5, **options): ...
        >>> Mine(3, beta=2).arguments, str(signature(Mine))
        ({'size': 3, 'beta': 2}, '(size, *, alpha=0.5, **options)')
    """

    __signature__ = _InitSignature()

    _arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments and build the object."""
        built = super().__new__(cls)
        built._arguments = (args, kwargs)
        return built

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, without those that were left at their defaults."""
        args, kwargs = self._arguments
        parameters = signature(type(self)).parameters.values()
        positional = [one.name for one in parameters if one.kind is not Parameter.VAR_KEYWORD]
        return dict(zip(positional, args, strict=False)) | kwargs
