{{/*
The values of this chart, also where it is a dependency of another: then they are below `pillion`.
*/}}
{{- define "pillion.values" -}}
{{- if eq .Chart.Name "pillion" -}}
{{- toYaml .Values -}}
{{- else if not (kindIs "map" (get .Values "pillion")) -}}
{{- fail "pillion.sidecar finds no values: name the chart `pillion` among the dependencies in Chart.yaml, without an alias" -}}
{{- else -}}
{{- toYaml .Values.pillion -}}
{{- end -}}
{{- end }}

{{- define "pillion.image" -}}
{{- $tag := .image.tag | default "0.1.0" -}}
{{- if hasPrefix "sha256:" $tag -}}
{{ .image.repository }}@{{ $tag }}
{{- else -}}
{{ .image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{/*
The container: an entry of `initContainers`, the first; with `mode: container`, the first of `containers`.
*/}}
{{- define "pillion.sidecar" -}}
{{- $values := include "pillion.values" . | fromYaml -}}
- name: pillion
  image: {{ include "pillion.image" $values | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    - run
    - --config=/etc/pillion/proxy.toml
    - --admin-port={{ $values.adminPort }}
    {{- if eq $values.mode "container" }}
    - --drain-delay=15s
    {{- end }}
  {{- with $values.env }}
  envFrom:
    - configMapRef:
        name: {{ . | quote }}
  {{- end }}
  {{- if eq $values.mode "container" }}
  lifecycle:
    postStart:
      exec:
        command: [/pillion, wait, "--admin=127.0.0.1:{{ $values.adminPort }}"]
  {{- else }}
  restartPolicy: Always
  {{- end }}
  ports:
    - name: pillion-admin
      containerPort: {{ $values.adminPort }}
      protocol: TCP
  startupProbe:
    httpGet: { path: /readyz, port: pillion-admin }
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 300
  livenessProbe:
    httpGet: { path: /livez, port: pillion-admin }
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- include "pillion.securityContext" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - { name: pillion, mountPath: /etc/pillion, readOnly: true }
    {{- range $values.secrets }}
    - { name: {{ include "pillion.directory" . | printf "pillion-%s" | quote }}, mountPath: {{ include "pillion.directory" . | printf "/run/secrets/%s" | quote }}, readOnly: true }
    {{- end }}
{{- end }}

{{/*
Its volumes: entries of `volumes`.
*/}}
{{- define "pillion.volumes" -}}
{{- $values := include "pillion.values" . | fromYaml -}}
- name: pillion
  configMap:
    name: {{ $values.config | quote }}
{{- range $values.secrets }}
- name: {{ include "pillion.directory" . | printf "pillion-%s" | quote }}
  secret:
    secretName: {{ splitList "=" . | last | quote }}
{{- end }}
{{- end }}

{{/*
`DIRECTORY=NAME`, or a name that is both.
*/}}
{{- define "pillion.directory" -}}
{{- $directory := splitList "=" . | first -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$" $directory) -}}
{{- fail (printf "secrets: `%s` makes no volume name: write DIRECTORY=%s with a short DIRECTORY of small letters, digits and -" . (splitList "=" . | last)) -}}
{{- end -}}
{{- $directory -}}
{{- end }}

{{- define "pillion.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
