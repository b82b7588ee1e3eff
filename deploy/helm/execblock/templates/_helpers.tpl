{{- define "execblock.selector" -}}
app.kubernetes.io/name: execblock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: daemon
{{- end }}

{{- define "execblock.labels" -}}
{{ include "execblock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "execblock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "execblock.config" -}}
[log]
format = {{ .Values.logFormat | quote }}

[metrics]
{{- if .Values.metrics.enabled }}
listen = "0.0.0.0:9643"
{{- else }}
listen = "127.0.0.1:9643"
{{- end }}
{{- if .Values.kubernetesEvents.enabled }}

[kubernetes]
events = true
{{- end }}
{{- if .Values.hooks.enabled }}

[nri]
inject_hook = true
hook = "{{ .Values.hooks.prefix }}/libexec/execblock/execblock-hook"
{{- end }}
{{- if .Values.config }}

{{ .Values.config }}
{{- end }}
{{- end }}

{{- define "execblock.settings" -}}
- name: config
  mountPath: /etc/execblock/config.toml
  subPath: config.toml
  readOnly: true
{{- range $name, $text := .Values.profiles }}
- name: config
  mountPath: /etc/execblock/profiles/{{ $name }}.toml
  subPath: {{ $name }}.toml
  readOnly: true
{{- end }}
{{- end }}

{{- define "execblock.health" -}}
httpGet:
  {{- if not .Values.metrics.enabled }}
  host: 127.0.0.1
  {{- end }}
  path: /healthz
  port: 9643
{{- end }}
