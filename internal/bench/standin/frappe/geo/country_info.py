"""The countries' list, read from the file beside this one."""

import json
import os


def get_all():
    with open(os.path.join(os.path.dirname(__file__), "country_info.json"), encoding="utf-8") as f:
        return json.load(f)
