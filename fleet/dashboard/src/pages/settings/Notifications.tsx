// Who is told outside of these pages: lists of mail, and webhooks with the events that they would not take.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { mailQuery, undeliveredQuery, webhooksQuery } from "../../api/queries";
import type { MailAnswer, MailList, MailTest, UndeliveredEvent, Webhook } from "../../api/types";
import { count } from "../../format";
import { Act } from "../../parts/Act";
import { Answer } from "../../parts/Answer";
import { Subject } from "../../parts/Log";
import { Note, Panel } from "../../parts/Panel";
import { State } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago, Stamp } from "../../parts/Time";
import { text } from "../../strings";

const say = text.settings.notifications;

export function Mail() {
  const asked = useQuery(mailQuery);
  const [tried, setTried] = useState<{ of: string; test: MailTest } | null>(null);
  const { trying, failure, run } = useTrying("mail");
  const test = (list: MailList): Promise<void> => {
    const of = listName(list);
    return run(of, async () => setTried({ of, test: await post("/api/v1/mail/test", { project: list.project ?? null }, {}) }));
  };
  return (
    <Panel title={say.mail.title} aside={say.mail.hint}>
      <Answer of={asked} rows={2}>
        {({ relay, from, quiet_until, items }) =>
          relay == null ? (
            <Note>{say.mail.none}</Note>
          ) : (
            <>
              <Table<MailList>
                label={say.mail.title}
                rows={items}
                rowKey={listName}
                columns={[
                  { head: say.mail.list, cell: (list) => <span className="strong">{listName(list)}</span> },
                  { head: say.mail.to, wide: true, cell: ({ to }) => to.join(", ") },
                  { head: say.mail.standing, right: true, cell: ({ standing }) => count(standing) },
                  { head: say.mail.waiting, right: true, cell: ({ waiting }) => count(waiting) },
                  { head: say.mail.state, cell: ListState },
                  { head: say.mail.sent, cell: ({ sent }) => (sent == null ? say.mail.never : <Ago at={sent} />) },
                  {
                    head: say.mail.test,
                    cell: (list) => (
                      <Act label={say.mail.test} describe={say.mail.testOf(listName(list))} whyNot={trying === null ? null : say.mail.trying} onClick={() => void test(list)} />
                    ),
                  },
                ]}
              />
              <Note>
                {say.mail.by(relay, from ?? "")}
                {quiet_until != null && (
                  <>
                    {" "}
                    {say.mail.quiet} <Stamp at={quiet_until} />
                  </>
                )}
              </Note>
              <div role="status">
                {failure !== null && <Note>{failure}</Note>}
                {tried !== null && <Tried of={tried.of} test={tried.test} />}
              </div>
            </>
          )
        }
      </Answer>
    </Panel>
  );
}

function ListState({ failing, refused, next }: MailList) {
  if (failing != null) {
    return (
      <>
        <State is="failing" tone="bad" word={say.mail.failing} />
        <span className="block soft small">{failing.why}</span>
      </>
    );
  }
  if (refused.length > 0) {
    return (
      <>
        <State is="refused" tone="warn" word={say.mail.refused(refused.length)} />
        <span className="block soft small">{refused.map(({ to, why }) => `${to}: ${why}`).join("; ")}</span>
      </>
    );
  }
  if (next != null) {
    return (
      <span>
        {say.mail.next} <Stamp at={next} />
      </span>
    );
  }
  return <State is="ok" tone="good" word={say.mail.told} />;
}

function Tried({ of, test: { taken, why, items } }: { of: string; test: MailTest }) {
  return (
    <>
      <Note>
        <State is={taken ? "ok" : "failing"} tone={taken ? "good" : "bad"} word={taken ? say.mail.taken(of) : say.mail.notTaken(of, why ?? "")} />
      </Note>
      {items.length > 0 && (
        <Table<MailAnswer>
          label={say.mail.taken(of)}
          rows={items}
          rowKey={({ to }) => to}
          columns={[
            { head: say.mail.to, cell: ({ to }) => to },
            { head: say.mail.said, wide: true, cell: ({ said }) => said },
          ]}
        />
      )}
    </>
  );
}

/** Something that is sent without a dialog: what is under way, why it failed, and a new look at what it changes. */
function useTrying(topic: "mail" | "webhooks"): { trying: string | null; failure: string | null; run: (what: string, act: () => Promise<unknown>) => Promise<void> } {
  const [trying, setTrying] = useState<string | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const cache = useQueryClient();
  const run = async (what: string, act: () => Promise<unknown>): Promise<void> => {
    setTrying(what);
    setFailure(null);
    try {
      await act();
    } catch (cause) {
      setFailure(cause instanceof Error ? cause.message : String(cause));
    }
    setTrying(null);
    await cache.invalidateQueries({ queryKey: [topic] });
  };
  return { trying, failure, run };
}

function listName({ project }: MailList): string {
  return project ?? say.mail.everything;
}

export function Webhooks() {
  const asked = useQuery(webhooksQuery);
  return (
    <Panel title={say.hooks.title} aside={say.hooks.hint}>
      <Answer of={asked} rows={2}>
        {(hooks) =>
          hooks.length === 0 ? (
            <Note>{say.hooks.none}</Note>
          ) : (
            <>
              <Table<Webhook>
                label={say.hooks.title}
                rows={hooks}
                rowKey={({ name }) => name}
                columns={[
                  { head: say.hooks.name, cell: ({ name }) => <span className="strong">{name}</span> },
                  { head: say.hooks.url, wide: true, cell: ({ url }) => url },
                  { head: say.hooks.events, cell: ({ events }) => events.join(", ") },
                  { head: say.hooks.behind, right: true, cell: ({ behind }) => count(behind) },
                  { head: say.hooks.aside, right: true, cell: ({ undelivered }) => count(undelivered) },
                ]}
              />
              {hooks.filter(({ undelivered }) => undelivered > 0).map(({ name }) => (
                <Undelivered key={name} hook={name} />
              ))}
            </>
          )
        }
      </Answer>
    </Panel>
  );
}

function Undelivered({ hook }: { hook: string }) {
  const asked = useQuery(undeliveredQuery(hook));
  const { failure, run } = useTrying("webhooks");
  const retry = (entry: number): Promise<void> =>
    run(String(entry), () => post("/api/v1/webhooks/{name}/undelivered/{entry}/retry", undefined, { path: { name: hook, entry } }));
  return (
    <Answer of={asked} rows={2}>
      {(events) => (
        <>
          <Table<UndeliveredEvent>
            label={say.hooks.asideOf(hook)}
            rows={events}
            rowKey={({ entry }) => String(entry)}
            columns={[
              { head: say.hooks.asideOf(hook), wide: true, cell: ({ subject, sentence }) => <Subject of={subject}>{sentence}</Subject> },
              { head: say.hooks.why, wide: true, cell: ({ why }) => why },
              { head: say.hooks.at, cell: ({ at }) => <Ago at={at} /> },
              {
                head: say.hooks.retry,
                cell: ({ entry, again }) => (
                  <Act label={say.hooks.retry} describe={say.hooks.retryOf(entry)} whyNot={again ? say.hooks.again : null} onClick={() => void retry(entry)} />
                ),
              },
            ]}
          />
          {failure !== null && <Note>{failure}</Note>}
        </>
      )}
    </Answer>
  );
}
