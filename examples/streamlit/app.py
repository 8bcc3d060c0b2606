"""Models, what they are called and where they run; and why one is on a box.

streamlit run examples/streamlit/app.py
"""

import os

import streamlit as st
from muster import Muster, MusterError, Refused

SERVER = os.environ.get("MUSTER_SERVER", "http://127.0.0.1:8480")


def models(fleet: Muster) -> None:
    """One line a version, with its names and its sites."""
    known = [model["model"] for model in fleet.pages(fleet.list_models)]
    if not known:
        st.info("No model yet: publish a bundle first.")
        return
    model = fleet.get_model(st.selectbox("Model", known))
    st.metric("Devices", model["devices_running"])
    st.dataframe(
        [
            {
                "version": version["version"],
                "called": ", ".join(version["aliases"]),
                "accepted": version["accepted"],
                "MB": round(version["size_bytes"] / 1e6, 1),
                "devices": version["runs_on"]["devices"],
                "sites": ", ".join(site["site"] for site in version["runs_on"]["sites"]),
            }
            for version in model["versions"]
        ]
    )


def why(fleet: Muster) -> None:
    """The story behind what a box answers with."""
    boxes = {f"{device['name']} ({device['site']})": device["id"] for device in fleet.pages(fleet.list_devices)}
    if not boxes:
        st.info("No box yet: enrol one first.")
        return
    try:
        graph = fleet.get_device_lineage(boxes[st.selectbox("Box", list(boxes))])
    except Refused as refusal:
        st.warning(str(refusal))
        return
    for edge in graph["edges"]:
        st.write(f"- {edge['sentence']}")
    for gap in graph["gaps"]:
        st.warning(gap)


def main() -> None:
    st.title("Which model runs where, and why")
    try:
        with Muster(SERVER, actor="streamlit") as fleet:
            models(fleet)
            st.header("Why is it there?")
            why(fleet)
    except MusterError as error:
        st.error(str(error))


main()
