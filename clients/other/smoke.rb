# One session by hand, through generated stubs alone: a batch of its own, its acknowledgement, and the last word.
#
#   ruby -I build/generated/ruby clients/other/smoke.rb unix:/run/appstatsd/appstatsd.sock
#
# Prints the session_id. A real client also reconnects, resends and bounds what it holds: docs/client-protocol.md.

require "securerandom"
require "grpc"
require "appstats/v1/appstats_services_pb"

include Appstats::V1

messages = Queue.new
stub = SessionReportService::Stub.new(ARGV.fetch(0), :this_channel_is_insecure)
answers = stub.stream_reports(Enumerator.new { |out| while (message = messages.pop) do out << message end })

messages << StreamReportsRequest.new(client_id: SecureRandom.hex(16))
raise "a new client_id is known" unless answers.next.acked_sequence.zero?

session_id = SecureRandom.uuid
started = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
report = SessionReport.new(
  user_id: ["1".rjust(32, "0")].pack("H*"),
  workspace_id: ["2".rjust(32, "0")].pack("H*"),
  agent_id: ["3".rjust(32, "0")].pack("H*"),
  access_method: :ACCESS_METHOD_SUBDOMAIN,
  slug_or_port: "code",
  session_id: [session_id.delete("-")].pack("H*"),
  session_started_at_unix_nano: started,
  session_ended_at_unix_nano: started + 1_000_000_000,
  requests: 3
)
messages << StreamReportsRequest.new(sequence: 1, reports: [report])
answer = answers.next
raise "not accepted: #{answer}" unless answer.acked_sequence == 1 && answer.rejected.empty?

messages << StreamReportsRequest.new(closing: true)
messages << nil # nothing more to write
begin
  answers.next
  raise "the stream goes on after the last word"
rescue StopIteration
  puts session_id # confirmed: as durable as the batch
end
