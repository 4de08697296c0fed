"""converted.pt: a network as data. Takes a converted network to one file, and such a file back to the same network.

container.py   the file: a JSON document and tensors in one safetensors file, with checksums over every byte
schema.py      what the document may hold: every field typed and bounded
plans.py       a plan as a part of the document, and back
modules.py     modules and tensors, likewise
rehearsal.py   a loaded network, run without values before anybody uses it
python.py      pickled Python of a file that a person trusts
network.py     save and load
"""
