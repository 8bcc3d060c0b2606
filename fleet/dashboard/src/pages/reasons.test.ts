import { describe, expect, test } from "vitest";
import type { RolloutDevice } from "../api/types";
import { byReason, grouped } from "./reasons";

const device = (code: string, next: string): RolloutDevice => ({ device: "d-1", name: "box", site: "er-1", state: "waiting", code, sentence: "", next });

test("each reason stands once, with its devices together and their next step, the largest first", () => {
  const waiting = [
    { code: "download_window", sentence: "er-1 opens at 22:00", devices: 2 },
    { code: "offline", sentence: "4 devices are offline", devices: 4, next: "ask the ward" },
    { code: "download_window", sentence: "er-2 opens at 23:00", devices: 3 },
  ];
  expect(grouped(waiting, [device("offline", "is asked when it is online"), device("download_window", "is asked then")])).toEqual([
    { code: "download_window", sentences: ["er-1 opens at 22:00", "er-2 opens at 23:00"], devices: 5, next: "is asked then" },
    { code: "offline", sentences: ["4 devices are offline"], devices: 4, next: "ask the ward" },
  ]);
});

describe("devices", () => {
  test("are counted by reason", () => {
    expect(byReason(["a", "b", "a"].map((code) => device(code, "")))).toEqual([{ code: "a", devices: 2 }, { code: "b", devices: 1 }]);
  });
});
