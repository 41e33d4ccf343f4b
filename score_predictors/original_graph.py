"""The frozen graphs of the original project, tf-perceptual-eusr: the score predictors'."""

# Arguments of `misc.export.frozen.Description`.
GRAPH = {
    "images": "input_1",
    "scale": None,
    "outputs": {"scores": "output_scores", "features": "output_features"},
    "scales": (None,),
    "radius": (None,),
    "factor": (1,),
    "input_offset": 127.5,
    "input_divisor": 127.5,
}
