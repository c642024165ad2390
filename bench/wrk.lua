-- What wrk sends, and the figures it prints. Arguments: the method, the path, how many subjects take turns at its end
-- (0: it has none), and which of them is the first.
local sent, subjects

function init(arguments)
  wrk.method = arguments[1]
  wrk.path = arguments[2]
  subjects, sent = tonumber(arguments[3]), tonumber(arguments[4])
  if wrk.method == "POST" then
    wrk.body = string.rep("a", 1024)
    wrk.headers["Content-Type"] = "application/json"
  end
  if subjects == 0 then
    local head = wrk.format()
    request = function() return head end
  else
    request = function()
      sent = sent + 1
      return wrk.format(nil, string.format("%s%06d", wrk.path, sent % subjects))
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'figures {"requests": %d, "seconds": %f, "bad": %d, "p50": %f, "p99": %f, "p99_9": %f}',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
