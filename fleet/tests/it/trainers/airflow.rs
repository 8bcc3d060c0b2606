//! A real Airflow 3, all in one: a DAG run becomes a signed bundle, and one that fails fails the run.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::foreign::{Program, port, python};
use super::whole::Whole;

const USER: &str = "muster";
const PASSWORD: &str = "a password of the tests";

async fn start(folder: &Path, trained: &Path) -> (Program, String) {
    let python = python("airflow", "airflow");
    let (dags, passwords) = (folder.join("dags"), folder.join("passwords.json"));
    std::fs::create_dir(&dags).unwrap();
    std::fs::write(&passwords, json!({ USER: PASSWORD }).to_string()).unwrap();
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    for (dag, folder) in [("train", trained), ("train-on-nothing", Path::new("/nowhere"))] {
        let text = std::fs::read_to_string(interop.join("dag.py")).unwrap();
        let text = text.replace("INTEROP", &interop.display().to_string()).replace("DAG_ID", dag);
        std::fs::write(
            dags.join(format!("{dag}.py")),
            text.replace("TRAINED", &folder.display().to_string()),
        )
        .unwrap();
    }
    let api = port();
    let url = format!("http://127.0.0.1:{api}");
    let mut command = Command::new(python.with_file_name("airflow"));
    command.arg("standalone").env("AIRFLOW_HOME", folder);
    // It starts its parts by name.
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", python.parent().unwrap().display()));
    for (name, value) in [
        ("CORE__LOAD_EXAMPLES", "False".to_owned()),
        ("CORE__DAGS_FOLDER", dags.display().to_string()),
        ("CORE__EXECUTOR", "LocalExecutor".to_owned()),
        ("CORE__PARALLELISM", "1".to_owned()),
        ("CORE__EXECUTION_API_SERVER_URL", format!("{url}/execution/")),
        ("CORE__SIMPLE_AUTH_MANAGER_USERS", format!("{USER}:admin")),
        ("CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", passwords.display().to_string()),
        ("API__HOST", "127.0.0.1".to_owned()),
        ("API__PORT", api.to_string()),
        ("API__BASE_URL", url.clone()),
        ("API__WORKERS", "1".to_owned()),
        ("API__SECRET_KEY", "a key of the tests".to_owned()),
        (
            "API_AUTH__JWT_SECRET",
            "a secret of the tests that is long enough for SHA-512, which wants 64".to_owned(),
        ),
        ("LOGGING__WORKER_LOG_SERVER_PORT", port().to_string()),
        ("LOGGING__TRIGGER_LOG_SERVER_PORT", port().to_string()),
        ("SCHEDULER__ENABLE_HEALTH_CHECK", "False".to_owned()),
    ] {
        command.env(format!("AIRFLOW__{name}"), value);
    }
    let mut airflow = Program::start("airflow", &mut command, folder);
    let http = reqwest::Client::new();
    airflow
        .until("Airflow has read both DAGs", async || {
            let body = json!({"username": USER, "password": PASSWORD});
            let token = http.post(format!("{url}/auth/token")).json(&body).send().await.ok()?;
            let token = token.json::<Value>().await.ok()?["access_token"].as_str()?.to_owned();
            for dag in ["train", "train-on-nothing"] {
                let known =
                    http.get(format!("{url}/api/v2/dags/{dag}")).bearer_auth(&token).send().await.ok()?;
                known.status().is_success().then_some(())?;
            }
            Some(())
        })
        .await;
    (airflow, url)
}

#[tokio::test]
#[ignore = "starts a whole Airflow: make trainers"]
async fn a_dag_run_of_a_real_airflow_becomes_a_signed_bundle() {
    let whole = Whole::start(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let (airflow, url) = start(folder.path(), &whole.trained()).await;
    let secret = whole.path("password");
    std::fs::write(&secret, PASSWORD).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let trainer = |dag: &str| {
        format!(
            "timeout_s = 150\n[models.trainer]\nkind = 'airflow'\nurl = '{url}'\ndag = '{dag}'\nuser = '{USER}'\n\
             password_file = 'password'\n"
        )
    };

    let run = whole.ask().await;
    let done = whole.build(&run, &trainer("train")).await;
    assert_eq!(done["state"], "succeeded", "{done:#}\n{}", airflow.tail());
    whole.assert_succeeded(&done).await;

    let run = whole.ask().await;
    let failed = whole.build(&run, &trainer("train-on-nothing")).await;
    assert_eq!(
        (&failed["state"], &failed["failure"]["code"]),
        (&"failed".into(), &"trainer_exit".into()),
        "{failed:#}"
    );
    let sentence = failed["failure"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("the DAG run failed"), "{sentence}");
    whole.stop().await;
}
