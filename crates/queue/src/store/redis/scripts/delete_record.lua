-- Deletes a record.
--   ARGV[4] kind, [5] key

call('HDEL', K .. 'records:' .. ARGV[4], ARGV[5])
call('SPUBLISH', K .. 'wake', 'records')
return 1
