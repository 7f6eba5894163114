-- Files, closures, coroutines, patterns, errors, much garbage.
local name = os.tmpname()
local file <close> = assert(io.open(name, "w+"))
for i = 1, 1000 do
  file:write(i, " ", string.rep("x", i % 50), "\n")
end
file:seek("set", 0)
local total, longest = 0, 0
for line in file:lines() do
  local number, text = line:match("^(%d+) (x*)$")
  total = total + tonumber(number)
  longest = math.max(longest, #text)
end
print("lines", total, longest, file:seek("end"))
print("removed", os.remove(name), (io.open(name)))

local numbers = coroutine.wrap(function()
  for i = 1, 5 do coroutine.yield(i * i) end
end)
print("squares", numbers(), numbers(), numbers())

local kept = {}
for i = 1, 200000 do kept[i % 1000] = { i, tostring(i) } end
collectgarbage()
print("kept", kept[999][1], kept[0][2], collectgarbage("count") < 20000)
print("error", pcall(function() local nothing; return nothing.field end))
print("sorted", table.concat((function(t) table.sort(t) return t end)({ "c", "a", "b" }), ","))
print(string.format("%5.3f %x %q", math.pi, 255, "a\nb"), 7 // 2, 2 ^ 53, 1 << 40)
os.exit(6)
