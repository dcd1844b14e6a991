"""What names of a configuration mean, in the few words that a page has room for."""

MEASURES = {
    "standalone": "the accuracy that each reaches alone",
    "data_share": "the share of the samples that each holds",
    "cosine": "how far each update points where the average does (CGSV)",
    "class_cosine": "the same, class by class on the last layer (ShapFed)",
    "rffl": "reputation by the direction of the updates (RFFL)",
    "cffl": "reputation by the accuracy of each one’s own model (CFFL)",
    "alignment": "how far each update lowers the validation loss (DIG-FL)",
    "loo": "what each round’s model loses without the update (leave-one-out)",
    "fedsv": "Shapley values, round by round",
    "banzhaf": "Banzhaf values, round by round",
    "beta_shapley": "Shapley values that favour small coalitions, round by round",
    "gtg_shapley": "Shapley values by guided, truncated orders (GTG-Shapley)",
}
OBJECTIVES = {
    "cv": "smallest spread of gains in proportion to the mean gain (CGS / MCG)",
    "spread_minus_gain": "small spread of gains and large mean gain, weighed against each other",
    "variance": "small variance of the gains and large mean gain, weighed against each other",
    "lexicographic": "smallest spread of gains, then the largest mean gain",
    "proportional": "accuracies proportional to contributions",
    "pearson": "largest correlation of contribution and received accuracy",
    "nash": "largest product of the gains",
    "full": "the full width for everybody",
}
PARTITIONS = {
    "Homogeneous": "everybody holds an equal part of every class",
    "Dirichlet": "each class is divided by random shares, the less evenly the smaller alpha",
    "QuantityImbalance": "a few owners hold a fixed share of every class each, the others divide the rest",
    "LabelSkew": "everybody holds a few classes only",
    "Natural": "everybody holds the groups that the data bring with them",
    "FromFile": "a file says who holds which sample",
}
