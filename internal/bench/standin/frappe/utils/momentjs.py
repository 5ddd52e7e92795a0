"""Time zones that the pages know: names are what counts here."""

data = {
    "zones": dict.fromkeys(["Africa/Johannesburg", "Africa/Luanda", "America/Chicago", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Tokyo",
                            "Europe/Berlin", "Europe/London",
                            "Europe/Paris", "Etc/UTC"], []),  # fmt: skip
    "links": {"Asia/Calcutta": "Asia/Kolkata", "UTC": "Etc/UTC"},
}
