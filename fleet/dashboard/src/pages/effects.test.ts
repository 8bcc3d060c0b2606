import { expect, test } from "vitest";
import type { DriftWindow } from "../api/types";
import { devicesOf, pointsOf } from "./effects";

const window = (device: string, day: number, state: string): DriftWindow => ({
  device, device_name: device, site: `er-${device}`, bundle: "b", version: "1", n: 100,
  from: `2027-03-0${day}T00:00:00Z`, to: `2027-03-0${day + 1}T00:00:00Z`,
  streams: [{ name: "age", state, mean_shift_sd: 0.5, against: "own", broken: [] }],
});

test("where there is no room for all, the devices that drift are drawn", () => {
  const windows = [window("a", 1, "ok"), window("b", 1, "warn"), window("c", 2, "drift"), window("c", 1, "ok"), window("d", 1, "drift"), window("d", 2, "drift")];
  const points = pointsOf({ streams: ["age"], windows, devices_left_out: 0 }, "age");
  expect(devicesOf(points).map(({ device }) => device)).toEqual(["d", "c", "a", "b"]);
  expect(pointsOf({ streams: [], windows, devices_left_out: 0 }, "crp")).toEqual([]);
});
