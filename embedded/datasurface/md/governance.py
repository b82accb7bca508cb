"""The objects that a model is made of."""

# The classes live in private modules by topic; this is the module that models import from.
from datasurface.md._containers import *  # noqa: F403
from datasurface.md._datastore import *  # noqa: F403
from datasurface.md._ecosystem import *  # noqa: F403
from datasurface.md._graph import *  # noqa: F403
from datasurface.md._mapping import *  # noqa: F403
from datasurface.md._platform import *  # noqa: F403
from datasurface.md._provider import *  # noqa: F403
from datasurface.md._team import *  # noqa: F403
from datasurface.md._workspace import *  # noqa: F403
from datasurface.md.credential import *  # noqa: F403
from datasurface.md.documentation import *  # noqa: F403
from datasurface.md.keys import *  # noqa: F403
from datasurface.md.policy import *  # noqa: F403
from datasurface.md.repo import *  # noqa: F403
from datasurface.md.schema import *  # noqa: F403
from datasurface.md.vendor import *  # noqa: F403
