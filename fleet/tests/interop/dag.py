"""A DAG of Airflow 3 that trains what a run asks for. Words in capitals are filled in by the test."""

import sys

from airflow.sdk import dag, get_current_context, task

sys.path.insert(0, "INTEROP")


@dag(dag_id="DAG_ID", schedule=None, catchup=False, is_paused_upon_creation=False)
def train() -> None:
    """One task; a real one would have many."""

    @task(retries=0)
    def work() -> None:
        import job

        job.task(get_current_context()["dag_run"].conf, "TRAINED")

    work()


train()
