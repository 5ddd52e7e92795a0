"""Extends schemathesis for .ci/fuzz: claim tokens, a check of event streams, a summary."""
import collections
import json
import os

import jsonschema_rs
import requests
import schemathesis

claims = {}  # the claim token of each job that has one


@schemathesis.auth(refresh_interval=None)
class Token:
    """Sends the operator's token. To pick up credentials, it waits for the job and sends its claim token."""

    def get(self, case, ctx):
        job = (case.path_parameters or {}).get("id")
        if case.operation.label != "POST /jobs/{id}/credentials" or job not in claims:
            return os.environ["NEXUS_API_TOKEN"]
        ask(case, "GET", "/jobs/" + job + "?wait=5s")
        return claims[job]

    def set(self, case, data, ctx):
        case.headers["Authorization"] = "Bearer " + data


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 202:
        answer = json.loads(response.content)
        if "claimToken" in answer:
            claims[answer["jobId"]] = answer["claimToken"]
    if case.operation.label == "POST /benches/{name}/{verb}" and response.status_code == 200:
        # Open the bench again: while it is paused or drained, no site is made.
        ask(case, "POST", "/benches/" + json.loads(response.content)["name"] + "/resume", headers=response.request.headers)


def ask(case, method, path, **more):
    requests.request(method, case.operation.base_url + path, timeout=10, **more).raise_for_status()


@schemathesis.check
def events(ctx, response, case):
    """Checks each event of a stream against its schema, which the contract names only in a description."""
    if response.headers.get("content-type") != ["text/event-stream"]:
        return
    for line in response.content.decode().splitlines():
        name, _, text = line.partition(": ")
        if name == "event":
            schema = "Job" if text == "snapshot" else "Event"
        if name == "data":
            components = case.operation.schema.raw_schema["components"]
            validator = jsonschema_rs.validator_for({"$ref": "#/components/schemas/" + schema, "components": components})
            wrong = [error.message for error in validator.iter_errors(json.loads(text))]
            assert not wrong, f"this event does not fit the schema {schema}: {text}\n{wrong}"


@schemathesis.check
class summary:
    """Counts the answers by operation and status, and writes the sites of accepted signups to the file signups."""

    def __init__(self):
        self.answers = collections.defaultdict(collections.Counter)

    def after_response(self, ctx, response, case):
        self.answers[case.operation.label][response.status_code] += 1
        if case.operation.label == "POST /signup" and response.status_code in (201, 202):
            with open("signups", "a") as sites:
                print(json.loads(response.content)["site"], file=sites)

    def after_run(self, ctx):
        for label, counts in sorted(self.answers.items()):
            print(f"{label:32}", *(f"{status}: {count:<6}" for status, count in sorted(counts.items())))
        print(len(self.answers), "operations,", sum(counts.total() for counts in self.answers.values()), "answers")
