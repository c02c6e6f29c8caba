"""A configuration, resolved: everything that a run will do, as a value with an id.

`tlcnn.plan(["dataset=synthetic"])` is `tlcnn.run.start.plan`.
"""

import sys

from tlcnn import FunctionModule

sys.modules[__name__].__class__ = FunctionModule
