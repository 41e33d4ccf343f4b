"""The frozen graphs of the original project, tf-perceptual-eusr: the generator's."""

# Arguments of `misc.export.frozen.Description`; the graph does not tell its scales.
GRAPH = {
    "images": "sr_input",
    "scale": "sr_input_scale",
    "outputs": {"output": "sr_output"},
    "scales": (),
    "radius": (),
    "factor": (),
}
