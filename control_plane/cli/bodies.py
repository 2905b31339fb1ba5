"""What is sent with a request, made of what stands on the command line."""

from typing import TypeVar

import typer
from pydantic import BaseModel, ValidationError

Body = TypeVar("Body", bound=BaseModel)


def read_body(kind: type[Body], **values: object) -> Body:
    """Return the body of these values.

    Raises:
        BadParameter: a value does not fit; the words name it and do not repeat it, for it may be a password.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error
