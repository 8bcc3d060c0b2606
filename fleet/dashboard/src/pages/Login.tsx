// Coming in: a password or the identity provider, and the link that makes the first administrator.
import { Button, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { ApiError, base, get, post } from "../api/client";
import { Brand } from "../parts/Icon";
import { text } from "../strings";

const say = text.identity;

export function LoginPage() {
  const { data } = useQuery({ queryKey: ["login"], queryFn: ({ signal }) => get("/api/v1/login", { signal }) });
  const failed = new URLSearchParams(location.search).has("failed") ? say.failed : null;
  return (
    <Card title={say.login}>
      {data?.setup === true && <p>{say.first}</p>}
      {data?.provider != null && (
        <Button component="a" href={`${base}/login/oidc`} fullWidth>
          {data.provider}
        </Button>
      )}
      <Form fields={["name", "password"]} said={failed} act={say.login} send={({ name = "", password = "" }) => post("/api/v1/login", { name, password }, {})} />
    </Card>
  );
}

export function SetupPage() {
  // Behind the '#', so that no log of any server or proxy has it.
  const [token] = useState(() => location.hash.slice(1));
  const send = ({ name = "", display = "", password = "" }: Filled): Promise<unknown> => post("/api/v1/setup", { token, name, display, password }, {});
  return (
    <Card title={say.setup}>
      <p>{token === "" ? say.noToken : say.setupHint}</p>
      <Form fields={["name", "display", "password"]} said={null} act={say.create} send={send} fresh />
    </Card>
  );
}

function Card({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <main className="login" id="main">
      <div className="panel">
        <div className="body stack">
          <p className="brand">
            <Brand />
            {text.product}
          </p>
          <h1>{title}</h1>
          {children}
        </div>
      </div>
    </main>
  );
}

type Field = "name" | "display" | "password";
type Filled = Partial<Record<Field, string>>;

interface FormProps {
  fields: Field[];
  said: string | null;
  act: string;
  send: (filled: Filled) => Promise<unknown>;
  /** The password is a new one. */
  fresh?: boolean;
}

function Form({ fields, said, act, send, fresh = false }: FormProps) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(said);
  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const filled: Filled = {};
    for (const field of fields) filled[field] = String(form.get(field) ?? "");
    setBusy(true);
    try {
      await send(filled);
      // From the start, so that nothing of whoever was here before stays on the page.
      location.assign("/");
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : String(error));
      setBusy(false);
    }
  };
  const complete = (field: Field): string =>
    field === "password" ? (fresh ? "new-password" : "current-password") : field === "name" ? "username" : "name";
  return (
    <form className="stack" onSubmit={(event) => void submit(event)}>
      {problem !== null && (
        <p role="alert" className="strong">
          {problem}
        </p>
      )}
      {fields.map((field) => (
        <TextInput key={field} name={field} label={say[field]} type={field === "password" ? "password" : "text"} autoComplete={complete(field)} required maxLength={field === "password" ? 256 : 120} />
      ))}
      <Button type="submit" loading={busy} fullWidth>
        {act}
      </Button>
    </form>
  );
}
