// What holds for the whole fleet: rules of sites, freezes, policies, who may join, who is told, what is kept.
import { Link } from "@tanstack/react-router";
import { FreezeFleet } from "../../parts/Freeze";
import { PageHead } from "../../parts/Panel";
import { text } from "../../strings";
import { Checkup } from "./Checkup";
import { Enrolments } from "./Enrolments";
import { Sites } from "./Sites";
import { Leases } from "./Leases";
import { Mail, Webhooks } from "./Notifications";
import { Policies } from "./Policies";
import { Server, Storage, Trust } from "./Server";

export function Settings() {
  return (
    <>
      <PageHead title={text.settings.title}>
        <Link to="/access">{text.nav.access}</Link>
        <FreezeFleet />
      </PageHead>
      <div className="stack">
        <Sites />
        <Policies />
        <Enrolments />
        <Leases />
        <Mail />
        <Webhooks />
        <div className="cols-even">
          <div className="stack">
            <Trust />
            <Server />
          </div>
          <Storage />
        </div>
        <Checkup />
      </div>
    </>
  );
}
