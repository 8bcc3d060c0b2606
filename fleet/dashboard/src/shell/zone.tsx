// The zone that times are written in: UTC, or that of a site. It stands in the address, so that it is shared with a link.
import { NativeSelect } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { sitesQuery } from "../api/queries";
import { isZone, utc } from "../format";
import { text } from "../strings";

export function useZone(): string {
  const { zone } = useSearch({ strict: false });
  return zone !== undefined && isZone(zone) ? zone : utc;
}

export function Zone() {
  const zone = useZone();
  const navigate = useNavigate();
  const { data: sites = [] } = useQuery(sitesQuery);
  const zones = [...new Set([utc, zone, ...sites.flatMap((site) => site.zone ?? [])])];
  return (
    <NativeSelect
      size="xs"
      className="zone"
      aria-label={text.zone}
      title={text.zone}
      value={zone}
      data={zones.filter(isZone)}
      onChange={(event) => {
        const chosen = event.currentTarget.value;
        void navigate({ to: ".", search: (before) => ({ ...before, zone: chosen === utc ? undefined : chosen }), replace: true, resetScroll: false });
      }}
    />
  );
}
