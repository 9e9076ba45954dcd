"""``python -m xailab.padim DATA``: fit, score and compare with the published figures."""

if __name__ == "__main__":
    from xailab.detection import padim_command

    padim_command()
