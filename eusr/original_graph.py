"""The frozen graphs of the original project, tf-perceptual-eusr: the generator's.

Some take a scale, some serve one alone; those of 4PP-EUSR give four times the size at every scale.
"""

# Arguments of `misc.export.frozen.Description`: the scales are those that a graph may serve; which
# it does, how far its outputs see and how large they are is found by running it.
GRAPH = {
    "images": "sr_input",
    "scale": "sr_input_scale",
    "outputs": {"output": "sr_output"},
    "scales": (2, 4, 8),
    "radius": (),
    "factor": (),
}
