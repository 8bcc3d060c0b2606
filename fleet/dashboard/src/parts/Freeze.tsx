// Stops everything at one site, or everywhere, until somebody thaws.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../api/client";
import { freezesQuery, overviewQuery } from "../api/queries";
import { text } from "../strings";
import { Act } from "./Act";
import { ReasonDialog } from "./ReasonDialog";

const say = text.freeze;

export function FreezeFleet() {
  const devices = useQuery(overviewQuery).data?.devices.total ?? 0;
  return <Freeze site={undefined} label={say.fleetAct} title={say.fleetAct} effect={say.effectFleet(devices)} />;
}

export function FreezeSite({ site, label = say.actOn(site) }: { site: string; label?: string }) {
  return <Freeze site={site} label={label} title={say.actOn(site)} effect={say.effectSite(site)} />;
}

interface FreezeProps {
  site: string | undefined;
  label: string;
  title: string;
  effect: string;
}

function Freeze({ site, label, title, effect }: FreezeProps) {
  const [asking, setAsking] = useState(false);
  const cache = useQueryClient();
  const { data: freezes = [] } = useQuery(freezesQuery);
  const frozen = freezes.some((freeze) => (freeze.site ?? undefined) === site);
  return (
    <>
      <Act label={label} describe={title} danger whyNot={frozen ? say.already : null} onClick={() => setAsking(true)} />
      {asking && (
        <ReasonDialog
          title={title}
          effect={effect}
          confirm={title}
          danger
          act={async (reason) => {
            await post("/api/v1/freezes", { ...(site === undefined ? {} : { site }), reason }, {});
            await cache.invalidateQueries({ queryKey: ["freezes"] });
          }}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}
