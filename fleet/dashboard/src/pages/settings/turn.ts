// Turns a model's policy on or off, and leaves the rest as it is by then.
import { getTagged, put } from "../../api/client";

export async function turn(model: string, enabled: boolean): Promise<void> {
  const path = { model };
  const { answer, tag } = await getTagged("/api/v1/policies/{model}", { path });
  await put("/api/v1/policies/{model}", { ...answer, enabled }, { path, ...(tag === null ? {} : { headers: { "if-match": tag } }) });
}
