"""The model: classes to describe a data estate, and the checks on it."""

# Models written for DataSurface import nearly everything from here.
from datasurface.md.codeartifact import *  # noqa: F403
from datasurface.md.exceptions import *  # noqa: F403
from datasurface.md.governance import *  # noqa: F403
from datasurface.md.json import *  # noqa: F403
from datasurface.md.lint import *  # noqa: F403
from datasurface.md.sqlalchemyutils import *  # noqa: F403
from datasurface.md.types import *  # noqa: F403
from datasurface.md.utils import *  # noqa: F403
