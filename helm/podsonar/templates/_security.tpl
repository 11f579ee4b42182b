{{- /* Who the agent is, by level. Capabilities that a process of uid 0 is given take effect at once; other users' do not. */ -}}
{{- define "podsonar.user" -}}
{{ eq .Values.security.level "restricted" | ternary 65532 0 }}
{{- end }}

{{- define "podsonar.podSecurity" -}}
{{- $user := include "podsonar.user" . -}}
securityContext:
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  {{- if eq .Values.security.level "restricted" }}
  runAsNonRoot: true
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
  {{- if and .Values.security.pingGroupRange (ne .Values.security.level "privileged") }}
  sysctls:
    - {name: net.ipv4.ping_group_range, value: "{{ $user }} {{ $user }}"}
  {{- end }}
{{- end }}

{{- define "podsonar.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    {{- if eq .Values.security.level "baseline" }}
    # All that container runtimes give by default, but NET_RAW. Dropping ALL would take that too.
    drop:
      - AUDIT_WRITE
      - CHOWN
      - DAC_OVERRIDE
      - FOWNER
      - FSETID
      - KILL
      - MKNOD
      - NET_BIND_SERVICE
      - SETFCAP
      - SETGID
      - SETPCAP
      - SETUID
      - SYS_CHROOT
    {{- else }}
    drop: [ALL]
    {{- if eq .Values.security.level "privileged" }}
    add: [NET_RAW]
    {{- end }}
    {{- end }}
{{- end }}
