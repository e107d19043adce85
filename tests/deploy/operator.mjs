// Validates a ServiceMonitor or PrometheusRule, JSON on standard input, against the Prometheus operator's schema. Evaluated in
// the folder where the schemas are installed.
import { readFileSync } from "node:fs";

const document = JSON.parse(readFileSync(0, "utf8"));
const module = await import(`@kubernetes-models/prometheus-operator/${document.apiVersion}/${document.kind}`);
try {
  new module[document.kind](document).validate();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
