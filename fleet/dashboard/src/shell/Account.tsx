// Who is logged in, and the way out; in the open mode, that everybody here is the operator.
import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { post } from "../api/client";
import { meQuery } from "../api/queries";
import { text } from "../strings";

const say = text.identity;

export function Account() {
  const { data } = useQuery(meQuery);
  if (data === undefined) return null;
  if (data.mode === "open") {
    return (
      <Link to="/access" className="soft small" title={say.openHint}>
        {say.open}
      </Link>
    );
  }
  const leave = async (): Promise<void> => {
    await post("/api/v1/logout", undefined, {});
    location.assign("/login");
  };
  return (
    <>
      <Link to="/access" className="small" title={data.roles.map(({ project, role }) => `${project}: ${role}`).join("\n")}>
        {data.display}
      </Link>
      <Button variant="default" size="compact-sm" onClick={() => void leave()}>
        {say.logout}
      </Button>
    </>
  );
}
