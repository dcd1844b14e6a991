"""Short explanations of measures, objectives and partitions, for the page."""

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
