"""One method for each operation of the API. Written by tools/generate.py; do not edit."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from . import types
from .connection import Connection


def _quote(part: str) -> str:
    return quote(part, safe="")


class Operations(Connection):
    """The API as it is described."""

    def get_blob(self, sha256: str) -> bytes:
        """Downloads content."""
        return self._send("GET", f"/api/v1/blobs/{_quote(sha256)}", read="bytes")

    def put_blob(self, sha256: str, body: bytes) -> None:
        """Uploads content under its digest."""
        self._send("PUT", f"/api/v1/blobs/{_quote(sha256)}", content=body, read="nothing")

    def head_blob(self, sha256: str) -> None:
        """Whether content is here."""
        self._send("HEAD", f"/api/v1/blobs/{_quote(sha256)}", read="nothing")

    def list_bundles(
        self, *, model: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListBundle:
        """Bundles, the newest first."""
        return self._send(
            "GET", "/api/v1/bundles", query={"model": model, "limit": limit, "cursor": cursor}, read="json"
        )

    def get_bundle(self, sha256: str) -> types.Bundle:
        """One bundle."""
        return self._send("GET", f"/api/v1/bundles/{_quote(sha256)}", read="json")

    def list_captures(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListCapture:
        """What was asked of sites, the newest first.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/captures", query={"limit": limit, "cursor": cursor}, read="json")

    def ask_capture(self, body: types.NewCapture) -> types.Capture:
        """Asks boxes to keep rows for their sites. Each site's own policy decides whether they do."""
        return self._send("POST", "/api/v1/captures", json=body, read="json")

    def get_capture(self, id: str) -> types.Capture:
        """One capture, and how each box stands to it."""
        return self._send("GET", f"/api/v1/captures/{_quote(id)}", read="json")

    def cancel_capture(self, id: str, body: types.WhyBody) -> types.Capture:
        """Asks no more. What sites have kept stays theirs."""
        return self._send("POST", f"/api/v1/captures/{_quote(id)}/cancel", json=body, read="json")

    def list_cohorts(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListCohort:
        """Saved cohorts, by name.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/cohorts", query={"limit": limit, "cursor": cursor}, read="json")

    def get_cohort(self, name: str) -> types.Cohort:
        """A saved cohort, and who is in it now."""
        return self._send("GET", f"/api/v1/cohorts/{_quote(name)}", read="json")

    def put_cohort(self, name: str, body: types.NewCohort, *, if_match: int | None = None) -> types.Cohort:
        """Saves a cohort.

        :param if_match: The revision you saw
        """
        return self._send("PUT", f"/api/v1/cohorts/{_quote(name)}", json=body, revision=if_match, read="json")

    def remove_cohort(self, name: str, body: types.WhyBody) -> None:
        """Removes a saved cohort; rollouts that were made of it keep its filter."""
        self._send("POST", f"/api/v1/cohorts/{_quote(name)}/remove", json=body, read="nothing")

    def get_dataset_blob(self, sha256: str) -> bytes:
        """Downloads a dataset's file or profile."""
        return self._send("GET", f"/api/v1/dataset-blobs/{_quote(sha256)}", read="bytes")

    def put_dataset_blob(self, sha256: str, body: bytes) -> None:
        """Uploads a dataset's file or profile under its digest."""
        self._send("PUT", f"/api/v1/dataset-blobs/{_quote(sha256)}", content=body, read="nothing")

    def head_dataset_blob(self, sha256: str) -> None:
        """Whether a dataset's file or profile is here."""
        self._send("HEAD", f"/api/v1/dataset-blobs/{_quote(sha256)}", read="nothing")

    def list_datasets(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListDatasetVersion:
        """Lists datasets by name, each as its latest version is.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/datasets", query={"limit": limit, "cursor": cursor}, read="json")

    def compare_datasets(self, *, a: str, b: str, as_: str | None = None) -> types.DatasetComparison:
        """What changed from one version to another, of one dataset or of two.

        :param a: `NAME` or `NAME@VERSION`, the version a number, a digest or `latest`.
        :param as_: A page to keep instead of JSON.
        """
        return self._send("GET", "/api/v1/datasets/compare", query={"a": a, "b": b, "as": as_}, read="json")

    def list_dataset_versions(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> types.ListDatasetVersion:
        """Lists a dataset's versions, the newest first.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET", f"/api/v1/datasets/{_quote(name)}/versions", query={"limit": limit, "cursor": cursor}, read="json"
        )

    def add_dataset_version(self, name: str, body: types.NewDatasetVersion) -> types.DatasetVersionDetail:
        """Adds a version of files that are here. The same content is one version, however often it is added."""
        return self._send("POST", f"/api/v1/datasets/{_quote(name)}/versions", json=body, read="json")

    def get_dataset_version(self, name: str, version: str) -> types.DatasetVersionDetail:
        """One version."""
        return self._send("GET", f"/api/v1/datasets/{_quote(name)}/versions/{_quote(version)}", read="json")

    def get_dataset_profile(self, name: str, version: str) -> Any:
        """What is in its columns."""
        return self._send("GET", f"/api/v1/datasets/{_quote(name)}/versions/{_quote(version)}/profile", read="json")

    def list_devices(
        self,
        *,
        q: str | None = None,
        site: str | None = None,
        presence: str | None = None,
        phase: str | None = None,
        model: str | None = None,
        bundle: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> types.ListDevice:
        """Devices, by site and name.

        :param q: Part of the name or the id.
        :param presence: `online` or `offline`.
        :param phase: Phase of any slot, such as `failed`.
        :param model: Model that any slot runs or wants.
        :param bundle: SHA-256 of the bundle that any slot answers with.
        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET",
            "/api/v1/devices",
            query={
                "q": q,
                "site": site,
                "presence": presence,
                "phase": phase,
                "model": model,
                "bundle": bundle,
                "limit": limit,
                "cursor": cursor,
            },
            read="json",
        )

    def count_devices(
        self,
        *,
        q: str | None = None,
        site: str | None = None,
        presence: str | None = None,
        phase: str | None = None,
        model: str | None = None,
        bundle: str | None = None,
    ) -> types.DeviceNumber:
        """How many devices a filter finds: apart from the list, which waits for no count.

        :param q: Part of the name or the id.
        :param presence: `online` or `offline`.
        :param phase: Phase of any slot, such as `failed`.
        :param model: Model that any slot runs or wants.
        :param bundle: SHA-256 of the bundle that any slot answers with.
        """
        return self._send(
            "GET",
            "/api/v1/devices/count",
            query={"q": q, "site": site, "presence": presence, "phase": phase, "model": model, "bundle": bundle},
            read="json",
        )

    def get_device(self, id: str) -> types.DeviceDetail:
        """One device, with what it last said."""
        return self._send("GET", f"/api/v1/devices/{_quote(id)}", read="json")

    def get_device_lineage(self, id: str, *, slot: str | None = None) -> types.LineageGraph:
        """Why this model is on this box.

        :param slot: Needed where more than one slot answers.
        """
        return self._send("GET", f"/api/v1/devices/{_quote(id)}/lineage", query={"slot": slot}, read="json")

    def get_device_tags(self, id: str) -> types.DeviceTags:
        """A box's tags."""
        return self._send("GET", f"/api/v1/devices/{_quote(id)}/tags", read="json")

    def put_device_tags(self, id: str, body: types.NewTags, *, if_match: int | None = None) -> types.DeviceTags:
        """Replaces a box's tags.

        :param if_match: The revision you saw
        """
        return self._send("PUT", f"/api/v1/devices/{_quote(id)}/tags", json=body, revision=if_match, read="json")

    def get_device_telemetry(
        self, id: str, *, from_: str | None = None, to: str | None = None, step: str | None = None
    ) -> types.Telemetry:
        """A device's telemetry, by the report, five minutes or an hour.

        :param from_: Points at this time or later; six hours before `to` if absent.
        :param to: Points before this time; now if absent.
        :param step: `raw` (each report), `5m` or `1h`; `5m` if absent.
        """
        return self._send(
            "GET", f"/api/v1/devices/{_quote(id)}/telemetry", query={"from": from_, "to": to, "step": step}, read="json"
        )

    def get_doctor(self) -> types.Checkup:
        """How this server is, part by part, and what to do about what is not well."""
        return self._send("GET", "/api/v1/doctor", read="json")

    def get_drift(self, *, model: str, device: str | None = None, stream: str | None = None) -> types.Drift:
        """Drift of a model, window by window.

        :param stream: Only this stream.
        """
        return self._send(
            "GET", "/api/v1/drift", query={"model": model, "device": device, "stream": stream}, read="json"
        )

    def get_drift_heatmap(self, *, model: str, site: str | None = None, windows: int | None = None) -> types.Heatmap:
        """Streams by windows by sites.

        :param site: Only this site.
        :param windows: Windows of each site, 28 if absent, 90 at most.
        """
        return self._send(
            "GET", "/api/v1/drift/heatmap", query={"model": model, "site": site, "windows": windows}, read="json"
        )

    def get_drift_histogram(
        self, *, bundle: str, stream: str, device: str | None = None, from_: str | None = None, to: str | None = None
    ) -> types.Histogram:
        """One stream's counts beside its reference's.

        :param bundle: SHA-256 of the bundle's manifest.
        :param from_: Windows that start here or later, world time.
        :param to: Windows that start before this, world time.
        """
        return self._send(
            "GET",
            "/api/v1/drift/histogram",
            query={"bundle": bundle, "stream": stream, "device": device, "from": from_, "to": to},
            read="json",
        )

    def get_performance(self, *, model: str) -> types.Performance:
        """A model's matured labels, day by day."""
        return self._send("GET", "/api/v1/drift/performance", query={"model": model}, read="json")

    def list_enrolments(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListEnrolment:
        """Enrolment files, the newest first.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/enrolments", query={"limit": limit, "cursor": cursor}, read="json")

    def create_enrolment(self, body: types.NewBody) -> types.NewEnrolment:
        """Makes an enrolment file."""
        return self._send("POST", "/api/v1/enrolments", json=body, read="json")

    def cancel_enrolment(self, id: str, body: types.WhyBody) -> types.Enrolment:
        """Lets nobody else join with a file; who joined with it stays what it is."""
        return self._send("POST", f"/api/v1/enrolments/{_quote(id)}/cancel", json=body, read="json")

    def list_freezes(self) -> types.ListFreeze:
        """What is frozen now."""
        return self._send("GET", "/api/v1/freezes", read="json")

    def freeze(self, body: types.FreezeScope) -> types.ListFreeze:
        """Freezes a site or the whole fleet: nothing is handed out or permitted there until it is thawed."""
        return self._send("POST", "/api/v1/freezes", json=body, read="json")

    def thaw(self, body: types.FreezeScope) -> types.ListFreeze:
        """Thaws a site or the whole fleet; a freeze of the other holds on."""
        return self._send("POST", "/api/v1/freezes/thaw", json=body, read="json")

    def hear_mlflow(self, body: types.MlflowEvent) -> types.HookAnswer:
        """Hears of a version in `MLflow`'s registry; signed by its webhook's secret.

        `X-MLflow-Delivery-Id`, `X-MLflow-Timestamp` and `X-MLflow-Signature` as `MLflow` 3 writes them. A delivery that comes
        again gets the answer it got.
        """
        return self._send("POST", "/api/v1/hooks/mlflow", json=body, read="json")

    def list_identities(
        self,
        *,
        state: str | None = None,
        suspect: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> types.ListIdentity:
        """Devices in the register, the newest first.

        :param state: `pending`, `active`, `rejected`, `quarantined` or `revoked`.
        :param suspect: Only those of which two machines may use the key.
        """
        return self._send(
            "GET",
            "/api/v1/identities",
            query={"state": state, "suspect": suspect, "limit": limit, "cursor": cursor},
            read="json",
        )

    def get_identity(self, id: str) -> types.Identity:
        """One device in the register."""
        return self._send("GET", f"/api/v1/identities/{_quote(id)}", read="json")

    def accept_identity(self, id: str, body: types.AcceptBody) -> types.Identity:
        """Makes a device that asks a member."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/accept", json=body, read="json")

    def dismiss_suspicion(self, id: str, body: types.WhyBody) -> types.Identity:
        """Says that what speaks against a member has been looked at and is right."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/dismiss", json=body, read="json")

    def quarantine_identity(self, id: str, body: types.WhyBody) -> types.Identity:
        """Sets a member apart: it keeps running, is ordered nothing, and what it measures stays on it."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/quarantine", json=body, read="json")

    def reject_identity(self, id: str, body: types.WhyBody) -> types.Identity:
        """Turns a device that asks away, for good."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/reject", json=body, read="json")

    def release_identity(self, id: str, body: types.WhyBody) -> types.Identity:
        """Ends a quarantine: the device is a member as before, and what spoke against it is dismissed."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/release", json=body, read="json")

    def revoke_identity(self, id: str, body: types.WhyBody) -> types.Identity:
        """Ends a membership, for good: the device is cut off at once and its certificates are put onto the list of revoked ones."""
        return self._send("POST", f"/api/v1/identities/{_quote(id)}/revoke", json=body, read="json")

    def list_incidents(
        self, *, model: str | None = None, state: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListIncident:
        """Incidents, the newest first.

        :param state: `open`, `acknowledged` or `closed`.
        """
        return self._send(
            "GET",
            "/api/v1/incidents",
            query={"model": model, "state": state, "limit": limit, "cursor": cursor},
            read="json",
        )

    def get_incident(self, id: str) -> types.Incident:
        """One incident."""
        return self._send("GET", f"/api/v1/incidents/{_quote(id)}", read="json")

    def acknowledge_incident(self, id: str, body: types.WhyBody) -> types.Incident:
        """Says that a person knows of it."""
        return self._send("POST", f"/api/v1/incidents/{_quote(id)}/acknowledge", json=body, read="json")

    def close_incident(self, id: str, body: types.WhyBody) -> types.Incident:
        """Ends it; the same change is not told again, a larger one is."""
        return self._send("POST", f"/api/v1/incidents/{_quote(id)}/close", json=body, read="json")

    def list_leases(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListLease:
        """Leases that hold now.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/leases", query={"limit": limit, "cursor": cursor}, read="json")

    def take_lease(self, body: types.NewLease) -> types.Lease:
        """Takes a lease: nothing new begins there until it is released or has run out."""
        return self._send("POST", "/api/v1/leases", json=body, read="json")

    def release_lease(self, id: str, body: types.WhyBody) -> types.Lease:
        """Releases a lease before it runs out."""
        return self._send("POST", f"/api/v1/leases/{_quote(id)}/release", json=body, read="json")

    def list_lineage_events(self, *, limit: int | None = None, cursor: str | None = None) -> types.LineageEvents:
        """What was made out of what, as `OpenLineage` events.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/lineage/events", query={"limit": limit, "cursor": cursor}, read="json")

    def list_log(
        self,
        *,
        after: int | None = None,
        subject: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> types.ListLogEntry:
        """The log: the newest first, or onwards from an id.

        :param after: Entries after this id, the oldest first. Without it: the newest first.
        :param subject: Only what happened to this.
        """
        return self._send(
            "GET",
            "/api/v1/log",
            query={"after": after, "subject": subject, "limit": limit, "cursor": cursor},
            read="json",
        )

    def get_login(self) -> types.LoginOptions:
        """How one may come in."""
        return self._send("GET", "/api/v1/login", read="json")

    def log_in(self, body: types.Login) -> types.Welcome:
        """Begins a session with a password."""
        return self._send("POST", "/api/v1/login", json=body, read="json")

    def start_oidc(self) -> None:
        """Sends the browser to the identity provider."""
        self._send("GET", "/api/v1/login/oidc", read="nothing")

    def finish_oidc(self, *, code: str | None = None, state: str | None = None, error: str | None = None) -> None:
        """Takes the identity provider's answer, and begins a session."""
        self._send(
            "GET", "/api/v1/login/oidc/callback", query={"code": code, "state": state, "error": error}, read="nothing"
        )

    def log_out(self) -> None:
        """Ends the session."""
        self._send("POST", "/api/v1/logout", read="nothing")

    def get_mail(self) -> types.Mail:
        """Who is told by mail, and how far that is."""
        return self._send("GET", "/api/v1/mail", read="json")

    def test_mail(self, body: types.MailTestBody) -> types.MailTest:
        """Sends a mail that says nothing, and tells what the relay answers."""
        return self._send("POST", "/api/v1/mail/test", json=body, read="json")

    def get_me(self) -> types.Me:
        """Who you are here."""
        return self._send("GET", "/api/v1/me", read="json")

    def put_password(self, body: types.NewPassword) -> None:
        """Changes your password, and ends your other sessions."""
        self._send("PUT", "/api/v1/me/password", json=body, read="nothing")

    def list_models(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListModelSummary:
        """Models, by name.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/models", query={"limit": limit, "cursor": cursor}, read="json")

    def get_model(self, model: str, *, limit: int | None = None, cursor: str | None = None) -> types.Model:
        """One model with its versions, the newest first.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET", f"/api/v1/models/{_quote(model)}", query={"limit": limit, "cursor": cursor}, read="json"
        )

    def put_model_alias(
        self, model: str, alias: str, body: types.NewAlias, *, if_match: int | None = None
    ) -> types.Alias:
        """Points a name at a version.

        :param if_match: The revision you saw; 0 if there was none
        """
        return self._send(
            "PUT", f"/api/v1/models/{_quote(model)}/aliases/{_quote(alias)}", json=body, revision=if_match, read="json"
        )

    def remove_model_alias(self, model: str, alias: str, body: types.WhyBody) -> None:
        """Takes a name away."""
        self._send("POST", f"/api/v1/models/{_quote(model)}/aliases/{_quote(alias)}/remove", json=body, read="nothing")

    def get_model_version(self, model: str, version: str) -> types.ModelVersion:
        """One version of a model."""
        return self._send("GET", f"/api/v1/models/{_quote(model)}/versions/{_quote(version)}", read="json")

    def get_version_lineage(self, model: str, version: str) -> types.LineageGraph:
        """Where a version comes from, and who let it go where."""
        return self._send("GET", f"/api/v1/models/{_quote(model)}/versions/{_quote(version)}/lineage", read="json")

    def put_version_notes(
        self, model: str, version: str, body: types.NewVersionNotes, *, if_match: int | None = None
    ) -> types.VersionNotes:
        """Replaces what people wrote on a version.

        :param if_match: The revision you saw
        """
        return self._send(
            "PUT",
            f"/api/v1/models/{_quote(model)}/versions/{_quote(version)}/notes",
            json=body,
            revision=if_match,
            read="json",
        )

    def get_overview(self) -> types.Overview:
        """How the fleet is, and what needs a person."""
        return self._send("GET", "/api/v1/overview", read="json")

    def list_people(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListPerson:
        """People, by name.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/people", query={"limit": limit, "cursor": cursor}, read="json")

    def create_person(self, body: types.NewPerson) -> types.Person:
        """Adds a person."""
        return self._send("POST", "/api/v1/people", json=body, read="json")

    def get_person(self, name: str) -> types.Person:
        """One person."""
        return self._send("GET", f"/api/v1/people/{_quote(name)}", read="json")

    def put_person(self, name: str, body: types.PersonChange) -> types.Person:
        """Changes what a person is, or lets them in no more."""
        return self._send("PUT", f"/api/v1/people/{_quote(name)}", json=body, read="json")

    def list_policies(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListPolicy:
        """Policies, by model.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/policies", query={"limit": limit, "cursor": cursor}, read="json")

    def get_policy(self, model: str) -> types.Policy:
        """A model's policy."""
        return self._send("GET", f"/api/v1/policies/{_quote(model)}", read="json")

    def put_policy(self, model: str, body: types.Policy, *, if_match: int | None = None) -> types.Policy:
        """Sets a model's policy.

        :param if_match: The revision you saw
        """
        return self._send("PUT", f"/api/v1/policies/{_quote(model)}", json=body, revision=if_match, read="json")

    def list_projects(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListProject:
        """Projects that are yours to see, by name.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/projects", query={"limit": limit, "cursor": cursor}, read="json")

    def create_project(self, body: types.NewProject) -> types.Project:
        """Adds a project."""
        return self._send("POST", "/api/v1/projects", json=body, read="json")

    def assign_to_project(self, name: str, body: types.Assignment) -> types.Project:
        """Moves sites, models and datasets into a project."""
        return self._send("POST", f"/api/v1/projects/{_quote(name)}/assign", json=body, read="json")

    def list_rollouts(
        self, *, model: str | None = None, phase: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListRolloutSummary:
        """Rollouts, the newest first.

        :param phase: `proposed`, `scheduled`, `running`, `paused`, `held`, `rolling_back`, `rolled_back`, `aborting`, `aborted`,
        `superseded` or `completed`.
        """
        return self._send(
            "GET",
            "/api/v1/rollouts",
            query={"model": model, "phase": phase, "limit": limit, "cursor": cursor},
            read="json",
        )

    def create_rollout(
        self, body: types.NewRollout, *, dry_run: bool | None = None, forecast: bool | None = None
    ) -> types.RolloutRehearsal | types.Rollout:
        """Begins a rollout, or says what it would do.

        :param dry_run: Only says what would happen.
        :param forecast: Of a dry run: whether it is played through, which takes seconds; who is meant is said in any case.
        """
        return self._send(
            "POST", "/api/v1/rollouts", json=body, query={"dry_run": dry_run, "forecast": forecast}, read="json"
        )

    def get_rollout(self, id: str) -> types.Rollout:
        """One rollout."""
        return self._send("GET", f"/api/v1/rollouts/{_quote(id)}", read="json")

    def abort_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Stops for good; everybody keeps what they have.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/abort", json=body, revision=if_match, read="json")

    def approve_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Says yes to a proposed rollout; its author's own yes does not count, and nobody's counts twice.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/approve", json=body, revision=if_match, read="json")

    def list_rollout_devices(
        self, id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> types.ListRolloutDevice:
        """Why each device is where it is.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET", f"/api/v1/rollouts/{_quote(id)}/devices", query={"limit": limit, "cursor": cursor}, read="json"
        )

    def get_rollout_evidence(self, id: str) -> Any:
        """Its record, signed with the order key."""
        return self._send("GET", f"/api/v1/rollouts/{_quote(id)}/evidence", read="json")

    def list_rollout_journal(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> types.ListValue:
        """What the engine was told, the oldest first: `muster rollout replay` lives it again.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET", f"/api/v1/rollouts/{_quote(id)}/journal", query={"limit": limit, "cursor": cursor}, read="json"
        )

    def pause_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Hands out to nobody else until resumed.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/pause", json=body, revision=if_match, read="json")

    def promote_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Opens the next stage without the gate's pass.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/promote", json=body, revision=if_match, read="json")

    def resume_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Goes on where it was paused or held; the gate is asked again.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/resume", json=body, revision=if_match, read="json")

    def retry_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Asks those again whose install failed.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/retry", json=body, revision=if_match, read="json")

    def rollback_rollout(self, id: str, body: types.WhyBody, *, if_match: int | None = None) -> types.Rollout:
        """Stops for good; everybody who was told goes back.

        :param if_match: The revision you saw
        """
        return self._send("POST", f"/api/v1/rollouts/{_quote(id)}/rollback", json=body, revision=if_match, read="json")

    def list_runs(
        self, *, model: str | None = None, state: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListRun:
        """Runs, the newest first; without their logs.

        :param state: `collecting`, `queued`, `claimed`, `candidate`, `succeeded`, `rejected`, `failed` or `cancelled`.
        """
        return self._send(
            "GET", "/api/v1/runs", query={"model": model, "state": state, "limit": limit, "cursor": cursor}, read="json"
        )

    def create_run(self, body: types.NewRun) -> types.Run:
        """Asks for a run by hand."""
        return self._send("POST", "/api/v1/runs", json=body, read="json")

    def claim_run(self, body: types.ClaimBody) -> types.Claim | None:
        """Takes the oldest waiting run of these models."""
        return self._send("POST", "/api/v1/runs/claim", json=body, read="json")

    def get_run(self, id: str) -> types.Run:
        """One run, with the end of its log."""
        return self._send("GET", f"/api/v1/runs/{_quote(id)}", read="json")

    def approve_run(self, id: str, body: types.WhyBody) -> types.Run:
        """Agrees to a candidate; with the last person that its policy asks for it may be rolled out."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/approve", json=body, read="json")

    def cancel_run(self, id: str, body: types.WhyBody) -> types.Run:
        """Ends a run; its builder stops at its next heartbeat."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/cancel", json=body, read="json")

    def list_run_datasets(self, id: str) -> types.ListDatasetVersion:
        """What a run was trained on."""
        return self._send("GET", f"/api/v1/runs/{_quote(id)}/datasets", read="json")

    def set_run_datasets(self, id: str, body: types.TrainedOn) -> types.ListDatasetVersion:
        """Says what a run is trained on; the holder of its lease is listened to."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/datasets", json=body, read="json")

    def finish_run(self, id: str, body: types.FinishBody) -> types.Run:
        """Says how a run ended; the same end said twice is taken once."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/finish", json=body, read="json")

    def heartbeat_run(self, id: str, body: types.HeartbeatBody) -> types.HeartbeatAnswer:
        """Keeps the lease and brings news."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/heartbeat", json=body, read="json")

    def reject_run(self, id: str, body: types.WhyBody) -> types.Run:
        """Does not want a candidate; its bundle stays in the catalogue and is rolled out by no policy."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/reject", json=body, read="json")

    def get_run_result(self, id: str, *, builder: str) -> types.TrainerResult | None:
        """What a trainer elsewhere handed back, if it did.

        :param builder: Whoever holds the lease.
        """
        return self._send("GET", f"/api/v1/runs/{_quote(id)}/result", query={"builder": builder}, read="json")

    def hand_back_run_result(self, id: str, body: types.ResultBody) -> types.TrainerResult:
        """Hands back the result; the same result said twice is taken once."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/result", json=body, read="json")

    def put_run_result_file(self, id: str, sha256: str, body: bytes) -> None:
        """Uploads a file of the result under its digest."""
        self._send("PUT", f"/api/v1/runs/{_quote(id)}/result/files/{_quote(sha256)}", content=body, read="nothing")

    def say_run_progress(self, id: str, body: types.ProgressBody) -> None:
        """Adds lines to the run's log while the training goes on."""
        self._send("POST", f"/api/v1/runs/{_quote(id)}/result/progress", json=body, read="nothing")

    def open_run_result(self, id: str, body: types.TokenBody) -> types.ResultToken:
        """Makes the token with which a trainer elsewhere hands back its result; the one before is worth nothing any more."""
        return self._send("POST", f"/api/v1/runs/{_quote(id)}/result/token", json=body, read="json")

    def list_sessions(self) -> types.ListSession:
        """Where you are logged in, the newest first."""
        return self._send("GET", "/api/v1/sessions", read="json")

    def revoke_session(self, id: str) -> None:
        """Ends one of your sessions."""
        self._send("POST", f"/api/v1/sessions/{_quote(id)}/revoke", read="nothing")

    def set_up(self, body: types.Setup) -> types.Welcome:
        """Makes the first administrator."""
        return self._send("POST", "/api/v1/setup", json=body, read="json")

    def list_sites(self, *, limit: int | None = None, cursor: str | None = None) -> types.ListSite:
        """Sites that have rules, by name.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send("GET", "/api/v1/sites", query={"limit": limit, "cursor": cursor}, read="json")

    def get_site(self, site: str) -> types.Site:
        """A site's rules."""
        return self._send("GET", f"/api/v1/sites/{_quote(site)}", read="json")

    def put_site(self, site: str, body: types.SiteRules, *, if_match: int | None = None) -> types.Site:
        """Sets a site's rules.

        :param if_match: The revision you saw
        """
        return self._send("PUT", f"/api/v1/sites/{_quote(site)}", json=body, revision=if_match, read="json")

    def tag_devices(self, body: types.TagMany, *, dry_run: bool | None = None) -> types.TaggedMany:
        """Sets and takes away tags of all boxes that match, all or none.

        :param dry_run: Only says what would happen.
        """
        return self._send("POST", "/api/v1/tags", json=body, query={"dry_run": dry_run}, read="json")

    def get_telemetry(self) -> types.TelemetryKept:
        """How much telemetry is kept, and what was dropped."""
        return self._send("GET", "/api/v1/telemetry", read="json")

    def list_tokens(
        self, *, all: bool | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListToken:
        """Your tokens, the newest first; never their secrets.

        :param all: Those of all people; for administrators of the fleet.
        """
        return self._send("GET", "/api/v1/tokens", query={"all": all, "limit": limit, "cursor": cursor}, read="json")

    def create_token(self, body: types.NewToken) -> types.NewTokenMade:
        """Makes a token; its secret is shown this once."""
        return self._send("POST", "/api/v1/tokens", json=body, read="json")

    def revoke_token(self, id: str) -> types.Token:
        """Takes a token back: yours or, for administrators of the fleet, anybody's."""
        return self._send("POST", f"/api/v1/tokens/{_quote(id)}/revoke", read="json")

    def list_triggers(
        self, *, model: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> types.ListTrigger:
        """Triggers, the newest first."""
        return self._send(
            "GET", "/api/v1/triggers", query={"model": model, "limit": limit, "cursor": cursor}, read="json"
        )

    def list_trust_files(self) -> types.TrustFiles:
        """Published trust files."""
        return self._send("GET", "/api/v1/trust", read="json")

    def get_trust_file(self, name: str) -> Any:
        """One trust file, as it was signed."""
        return self._send("GET", f"/api/v1/trust/{_quote(name)}", read="json")

    def put_trust_file(self, name: str, body: bytes) -> types.TrustAccepted:
        """Takes a signed trust file in, or says every reason why not."""
        return self._send("PUT", f"/api/v1/trust/{_quote(name)}", content=body, read="json")

    def list_webhooks(self) -> types.ListWebhook:
        """Webhooks of the server's configuration."""
        return self._send("GET", "/api/v1/webhooks", read="json")

    def list_undelivered(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> types.ListUndeliveredEvent:
        """What a webhook would not take, the oldest first.

        :param limit: Items at most, 1 to 500.
        :param cursor: `next` of the page before.
        """
        return self._send(
            "GET", f"/api/v1/webhooks/{_quote(name)}/undelivered", query={"limit": limit, "cursor": cursor}, read="json"
        )

    def retry_undelivered(self, name: str, entry: str) -> None:
        """Sends an event again that a webhook would not take."""
        self._send("POST", f"/api/v1/webhooks/{_quote(name)}/undelivered/{_quote(entry)}/retry", read="nothing")
