{{- define "pillion.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "pillion" $name) -}}
{{- $name = printf "%s-pillion" $name -}}
{{- end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "pillion.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "pillion.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "pillion.selectorLabels" -}}
app.kubernetes.io/name: pillion
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pillion.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pillion.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/*
Where the webhook's certificate is.
*/}}
{{- define "pillion.tlsSecret" -}}
{{- .Values.webhook.tls.secretName | default (printf "%s-tls" (include "pillion.name" .)) -}}
{{- end }}

{{/*
What puts pillion into pods: policy, webhook or none.
*/}}
{{- define "pillion.injector" -}}
{{- $hasPolicy := semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version -}}
{{- if .Values.injector -}}
{{- .Values.injector -}}
{{- else if not .Chart.IsRoot -}}
none
{{- else if $hasPolicy -}}
policy
{{- else -}}
{{- fail (printf "Kubernetes %s has no MutatingAdmissionPolicy of v1: set injector=webhook and webhook.certManager.enabled=true (or webhook.tls of your own), or injector=none" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end }}

{{- define "pillion.namespaceSelector" -}}
{{- with .names -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ toJson (uniq .) }}
{{- else -}}
{}
{{- end -}}
{{- end }}
