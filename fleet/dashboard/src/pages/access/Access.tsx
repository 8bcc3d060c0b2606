// Who may come in, and as what: oneself, sessions, tokens, and for administrators people and projects.
import { useQuery } from "@tanstack/react-query";
import { meQuery } from "../../api/queries";
import { Answer } from "../../parts/Answer";
import { Note, PageHead, Panel } from "../../parts/Panel";
import { text } from "../../strings";
import { Mine } from "./Mine";
import { People } from "./People";
import { Projects } from "./Projects";
import { Sessions } from "./Sessions";
import { Tokens } from "./Tokens";

const say = text.access;

export function Access() {
  const asked = useQuery(meQuery);
  return (
    <>
      <PageHead title={say.title} />
      <Answer of={asked}>
        {(me) => (
          <div className="stack">
            {me.mode === "open" ? (
              <Panel title={say.open}>
                <Note>{say.openWhy}</Note>
                <Note>{say.openHow}</Note>
              </Panel>
            ) : (
              <>
                <div className="cols-even">
                  <Mine me={me} />
                  <Sessions />
                </div>
                <Tokens me={me} />
              </>
            )}
            {me.administrator && (
              <>
                {me.mode !== "open" && <People />}
                <Projects />
              </>
            )}
          </div>
        )}
      </Answer>
    </>
  );
}
