// Addresses and their pages.
import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { Device } from "./pages/Device";
import { Devices } from "./pages/Devices";
import { DriftPage } from "./pages/Drift";
import { LoginPage, SetupPage } from "./pages/Login";
import { Models } from "./pages/Models";
import { OverviewPage } from "./pages/Overview";
import { RolloutPage } from "./pages/Rollout";
import { Rollouts } from "./pages/Rollouts";
import { RunPage } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { Problem } from "./parts/Answer";
import { devicesSearch, driftSearch, modelsSearch, parseAddress, printAddress, rolloutSearch, rolloutsSearch } from "./search";
import { Shell } from "./shell/Shell";
import { text } from "./strings";

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => <p>{text.problem.notFound}</p>,
  errorComponent: ({ error }) => <Problem error={new Error(`${text.problem.crashed} (${error instanceof Error ? error.message : String(error)})`)} />,
});

const children = [
  createRoute({ getParentRoute: () => root, path: "/", component: OverviewPage }),
  createRoute({ getParentRoute: () => root, path: "/rollouts", component: Rollouts, validateSearch: rolloutsSearch }),
  createRoute({ getParentRoute: () => root, path: "/rollouts/$id", component: RolloutPage, validateSearch: rolloutSearch }),
  createRoute({ getParentRoute: () => root, path: "/devices", component: Devices, validateSearch: devicesSearch }),
  createRoute({ getParentRoute: () => root, path: "/devices/$id", component: Device }),
  createRoute({ getParentRoute: () => root, path: "/models", component: Models, validateSearch: modelsSearch }),
  createRoute({ getParentRoute: () => root, path: "/drift", component: DriftPage, validateSearch: driftSearch }),
  createRoute({ getParentRoute: () => root, path: "/runs", component: Runs }),
  createRoute({ getParentRoute: () => root, path: "/runs/$id", component: RunPage }),
  createRoute({ getParentRoute: () => root, path: "/login", component: LoginPage }),
  createRoute({ getParentRoute: () => root, path: "/setup", component: SetupPage }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(children),
  parseSearch: parseAddress,
  stringifySearch: printAddress,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
