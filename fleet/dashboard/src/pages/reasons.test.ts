import { describe, expect, test } from "vitest";
import type { RolloutDevice } from "../api/types";
import { byReason, grouped } from "./reasons";

const device = (code: string, next: string): RolloutDevice => ({ device: "d-1", name: "box", site: "er-1", stage: "canary", state: "waiting", code, sentence: "", next });

describe("why not further", () => {
  const waiting = [
    { code: "evidence", sentence: "more evidence: 3 of 40 labels", devices: 1 },
    { code: "evidence", sentence: "more evidence: 12 of 50 requests", devices: 1 },
    { code: "offline", sentence: "2 devices are offline", devices: 2 },
    { code: "download_window", sentence: "er-1 opens at 22:00", devices: 3 },
    { code: "download_window", sentence: "er-2 opens at 23:00", devices: 2 },
  ];
  const items = [...Array<RolloutDevice>(2).fill(device("offline", "is asked when it is online")), ...Array<RolloutDevice>(5).fill(device("download_window", "is asked then"))];

  test("each reason stands once, the one of most devices first, with the next step of its devices", () => {
    expect(grouped(waiting, { items })).toEqual([
      { code: "download_window", sentences: ["er-1 opens at 22:00", "er-2 opens at 23:00"], devices: 5, next: "is asked then" },
      { code: "offline", sentences: ["2 devices are offline"], devices: 2, next: "is asked when it is online" },
      { code: "evidence", sentences: ["more evidence: 3 of 40 labels", "more evidence: 12 of 50 requests"], devices: 0, next: "" },
    ]);
  });
  test("of a page of devices the engine's counts are told", () => {
    expect(grouped(waiting, { items: items.slice(0, 3), next: "c" }).map(({ code, devices }) => [code, devices])).toEqual([["download_window", 5], ["offline", 2], ["evidence", 0]]);
  });
});

describe("devices", () => {
  test("are counted by reason", () => {
    expect(byReason(["a", "b", "a"].map((code) => device(code, "")))).toEqual([{ code: "a", devices: 2 }, { code: "b", devices: 1 }]);
  });
});
