// Custom resources, judged by the types that are made from their definitions. They come as a JSON list on stdin.
import * as certManager from "@kubernetes-models/cert-manager/cert-manager.io/v1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { readFileSync } from "node:fs";

const groups = { "cert-manager.io/v1": certManager, "monitoring.coreos.com/v1": prometheus };
for (const resource of JSON.parse(readFileSync(0))) {
  const Type = groups[resource.apiVersion]?.[resource.kind];
  if (!Type) throw new Error(`nobody knows ${resource.apiVersion} ${resource.kind}`);
  new Type(resource).validate();
}
