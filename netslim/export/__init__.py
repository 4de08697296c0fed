"""Plain networks and plain weights into files that need no netslim to be read, each of which is read back.

Takes what `SlimNet.extract` gives; WRITERS has a row for every form.
"""

from netslim.export.onnx import write_onnx as write_onnx
from netslim.export.pickled import read_module as read_module
from netslim.export.pickled import write_module as write_module
from netslim.export.pickled import write_state_dict as write_state_dict
from netslim.export.writers import WRITERS as WRITERS
from netslim.export.writers import Writer as Writer
