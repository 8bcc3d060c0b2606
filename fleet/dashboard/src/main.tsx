// Builds everything, once.
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { createRoot } from "react-dom/client";
import "./mantine";
import "./styles.css";
import { router } from "./router";
import { LiveProvider } from "./shell/live";
import { theme } from "./theme";

// The live stream and each query's own interval ask again; retries would only hide that the server is away.
const cache = new QueryClient({
  defaultOptions: { queries: { retry: false, staleTime: 5_000, refetchOnWindowFocus: true } },
});

const place = document.getElementById("root");
if (place === null) throw new Error("index.html has no #root");
createRoot(place).render(
  <MantineProvider theme={theme} defaultColorScheme="auto">
    <QueryClientProvider client={cache}>
      <LiveProvider>
        <RouterProvider router={router} />
      </LiveProvider>
    </QueryClientProvider>
  </MantineProvider>,
);
