"""Save a W&B workspace that shows the runs of a project as they are meant to be read. Needs a login and a network.

    pip install wandb-workspaces
    python examples/wandb_workspace.py TEAM aequa

Every run of the project, past and future, appears in it; the keys are those of ``WandbDashboard``.
"""

import argparse

from wandb_workspaces.reports.v2 import LinePlot, WeavePanelSummaryTable
from wandb_workspaces.workspaces import Section, SectionPanelSettings, Workspace


def by_round(title: str, keys: str) -> LinePlot:
    """Return a plot of all series whose names match a regular expression, by round."""
    return LinePlot(title=title, x="round", metric_regex=keys)


def workspace(team: str, project: str) -> Workspace:
    """Return a workspace with sections for rewards, the network, the participants and the cost."""
    tables = [WeavePanelSummaryTable(table_name=name) for name in ("contributions", "allocation", "rewards")]
    sections = [
        Section(name="Who brought and who received what", panels=[*tables], is_open=True, pinned=True),
        Section(
            name="The shared network",
            panels=[by_round("Accuracy of every width", r"validation_accuracy/.*"), by_round("Loss", r"train/loss")],
            is_open=True,
        ),
        Section(
            name="The participants",
            panels=[
                by_round("Loss", r"participant/.*/loss"),
                by_round("Width held", r"participant/.*/width"),
                by_round("Contribution by cosine", r"participant/.*/cosine"),
            ],
        ),
        Section(name="Cost", panels=[by_round("Seconds of a round by phase", r"time/.*")]),
    ]
    for section in sections:
        section.panel_settings = SectionPanelSettings(x_axis="round")
    return Workspace(entity=team, project=project, name="Fair rewards", sections=sections)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("team", help="W&B team or user")
    parser.add_argument("project", help="W&B project, such as aequa")
    options = parser.parse_args()
    print(workspace(options.team, options.project).save().url)
