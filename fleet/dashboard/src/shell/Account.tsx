// Who is logged in, and the way out; in the open mode, that everybody here is the operator.
import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { get, post } from "../api/client";
import { text } from "../strings";

const say = text.identity;

export function Account() {
  const { data } = useQuery({ queryKey: ["me"], queryFn: ({ signal }) => get("/api/v1/me", { signal }), staleTime: 60_000 });
  if (data === undefined) return null;
  if (data.mode === "open") {
    return (
      <span className="soft small" title={say.openHint}>
        {say.open}
      </span>
    );
  }
  const leave = async (): Promise<void> => {
    await post("/api/v1/logout", undefined, {});
    location.assign("/login");
  };
  return (
    <>
      <span className="small" title={data.roles.map(({ project, role }) => `${project}: ${role}`).join("\n")}>
        {data.display}
      </span>
      <Button variant="default" size="compact-sm" onClick={() => void leave()}>
        {say.logout}
      </Button>
    </>
  );
}
