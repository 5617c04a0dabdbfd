"""What the recipe's commands do with an error that the user can mend."""

import functools
import sys
from collections.abc import Callable

from recipe.config import RecipeError


def command(main: Callable[[], int]) -> Callable[[], int]:
    """``main``, ending with one line on standard error and exit code 1 where it raises RecipeError."""

    @functools.wraps(main)
    def run() -> int:
        try:
            return main()
        except RecipeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run
