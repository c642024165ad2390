-- What wrk sends, and the figures it prints: arguments are the method, the path, and how many paths are gone through.
local sent = 0

function init(arguments)
  wrk.method = arguments[1]
  wrk.path = arguments[2]
  subjects = tonumber(arguments[3])
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
